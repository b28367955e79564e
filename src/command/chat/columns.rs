//! Several answers side by side, as many as the terminal has room for.

/// Narrower than this no text is read.
const NARROWEST: usize = 34;

/// Between two columns.
const GAP: usize = 3;

/// The answers with their numbers, in lines of at most `width` columns; below each other where two have no room.
pub(super) fn side_by_side(answers: &[String], width: usize) -> String {
    let abreast = ((width + GAP) / (NARROWEST + GAP)).clamp(1, answers.len().max(1));
    let each = (width + GAP) / abreast - GAP;
    let mut lines = Vec::new();
    let numbered: Vec<(usize, &String)> =
        answers.iter().enumerate().map(|(index, answer)| (index + 1, answer)).collect();
    for part in numbered.chunks(abreast) {
        let columns: Vec<Vec<String>> = part
            .iter()
            .map(|(number, answer)| std::iter::once(format!("[{number}]")).chain(broken(answer, each)).collect())
            .collect();
        let height = columns.iter().map(Vec::len).max().unwrap_or_default();
        for row in 0..height {
            let cells = columns.iter().map(|column| column.get(row).map_or("", String::as_str));
            let line: Vec<String> = cells.map(|cell| padded(cell, each)).collect();
            lines.push(line.join(&" ".repeat(GAP)).trim_end().to_owned());
        }
        lines.push(String::new());
    }
    lines.pop();
    lines.join("\n")
}

fn padded(cell: &str, width: usize) -> String {
    let blanks = width.saturating_sub(console::measure_text_width(cell));
    format!("{cell}{}", " ".repeat(blanks))
}

/// The lines of a text, broken between words, and inside of those that are longer than a line.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.trim().lines() {
        let mut current = String::new();
        let mut used = 0;
        for word in line.replace('\t', "    ").split_inclusive(' ') {
            let long = console::measure_text_width(word.trim_end());
            if used + long > width && used > 0 {
                lines.push(std::mem::take(&mut current));
                used = 0;
            }
            for c in word.chars() {
                let wide = console::measure_text_width(c.encode_utf8(&mut [0; 4]));
                if used + wide > width {
                    // A blank at the end of a line is not seen.
                    if c == ' ' {
                        continue;
                    }
                    lines.push(std::mem::take(&mut current));
                    used = 0;
                }
                current.push(c);
                used += wide;
            }
        }
        lines.push(current.trim_end().to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_many_as_there_is_room_for() {
        let answers: Vec<String> = (0..4).map(|index| format!("answer {index} ").repeat(20)).collect();
        for (width, abreast) in [(30, 1), (80, 2), (200, 4), (120, 3)] {
            let text = side_by_side(&answers, width);
            assert_eq!(text.lines().next().expect("a line").matches('[').count(), abreast, "{text}");
            assert!(text.lines().all(|line| console::measure_text_width(line) <= width), "{width}:\n{text}");
            assert_eq!(text.matches("answer").count(), 80, "{width}");
        }
        assert_eq!(side_by_side(&["one".into()], 80), "[1]\none");
    }

    /// Letters that take two columns, words longer than a line, lines of their own.
    #[test]
    fn no_line_is_longer_than_its_column() {
        let answers = ["狐".repeat(100), "x".repeat(100), "a\n\nb".into()];
        for width in [20, 40, 77, 120] {
            let text = side_by_side(&answers, width);
            assert!(text.lines().all(|line| console::measure_text_width(line) <= width), "{width}:\n{text}");
            assert_eq!((text.matches('狐').count(), text.matches('x').count()), (100, 100));
        }
    }
}
