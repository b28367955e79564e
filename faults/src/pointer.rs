//! A Git LFS pointer: what a clone has in place of a large file when `git lfs` is not installed.

use std::path::Path;

use crate::{Fault, Place};

/// How every pointer begins (the specification of Git LFS).
const BEGINNING: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The longest pointer that Git LFS takes for one.
const LONGEST: usize = 1024;

/// Refuses a file's `bytes` that are a pointer to it. The first kilobyte of a larger file is enough.
///
/// # Errors
/// They are one: the fault has the file as its place.
pub fn refuse_pointer(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Fault> {
    if bytes.len() > LONGEST || !bytes.starts_with(BEGINNING) {
        return Ok(());
    }
    let path = path.as_ref();
    let text = String::from_utf8_lossy(bytes);
    let size =
        text.lines().find_map(|line| line.strip_prefix("size ")).and_then(|size| size.trim().parse::<u64>().ok());
    let size = size.map(|size| format!(" of {size} bytes")).unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let hint = match in_cache(path) {
        // Nothing of git is there.
        true => {
            let blob = path.canonicalize().ok().filter(|blob| blob != path);
            let blob = blob.map(|blob| format!(" and `{}`", blob.display())).unwrap_or_default();
            format!("it lies in the hub's cache: delete `{}`{blob}, and it is fetched again", path.display())
        }
        false => format!("install `git lfs` and fetch the file: `git -C {} lfs pull`", folder.display()),
    };
    Err(Fault::new(format!("this is a Git LFS pointer, not the file{size} itself")).at(Place::file(path)).hint(hint))
}

/// True for a file of a repository in the hub's cache: `models--ORG--NAME/snapshots/COMMIT/..`.
fn in_cache(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let is_repository = |name: &str| ["models--", "datasets--"].iter().any(|kind| name.starts_with(kind));
    parts.windows(2).any(|pair| is_repository(&pair[0]) && (pair[1] == "snapshots" || pair[1] == "blobs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_named_and_nothing_else_is() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 269060552\n";
        let fault = refuse_pointer("model/model.safetensors", pointer).expect_err("a pointer");
        assert!(fault.message.contains("Git LFS pointer") && fault.message.contains("269060552"), "{fault}");
        assert_eq!(fault.place, Some(Place::File("model/model.safetensors".into())));
        assert!(fault.hint.is_some_and(|hint| hint.contains("`git -C model lfs pull`")));
        let hub = "hub/models--org--name/snapshots/4d7a/model.safetensors";
        let hint = refuse_pointer(hub, pointer).expect_err("a pointer").hint.expect("a hint");
        assert_eq!(hint, format!("it lies in the hub's cache: delete `{hub}`, and it is fetched again"));
        let windows = String::from_utf8_lossy(pointer).replace('\n', "\r\n");
        assert!(refuse_pointer("a", windows.as_bytes()).expect_err("a pointer").message.contains("269060552"));
        for other in
            [&b"{}"[..], b"", b"version https://example.org/spec/v1\n", &[pointer.as_slice(), &[0; 2000]].concat()]
        {
            refuse_pointer("a", other).expect("no pointer");
        }
    }
}
