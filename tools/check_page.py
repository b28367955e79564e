#!/usr/bin/env python3
"""Looks at a page of `trainer report`, or at the report.html of a run, in a headless Chromium.

    tools/check_page.py report.html [--widths 1400,400] [--pictures DIR]

Checks in light and dark, at each width, that nothing is wider than the page, that no two texts of a picture overlap or stick
out of it, and that no picture and no section is empty. Exit code 1 and a line for each thing that is wrong. Needs `chromium`
(Debian: chromium) and nothing else.
"""

import argparse
import html
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

# Runs in the page. A frame of the wanted width stands for the screen: headless windows have a least width.
LOOK = r"""
(() => {
  const faults = [];
  const say = (what, element) => faults.push(what + ': ' + (element.textContent || element.className || element.tagName).toString().trim().slice(0, 60));
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth + 1) faults.push(`the page is ${root.scrollWidth} wide, the screen ${root.clientWidth}`);
  const shown = element => element.getClientRects().length > 0;
  for (const element of document.querySelectorAll('body *')) {
    if (!shown(element) || element.closest('svg') || element.closest('.scroll')) continue;
    const box = element.getBoundingClientRect();
    if (box.right > root.clientWidth + 1 || box.left < -1) say('sticks out of the page', element);
    if (element.children.length === 0 && element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0 && getComputedStyle(element).display !== 'inline') say('is wider than its box', element);
  }
  for (const svg of document.querySelectorAll('figure svg')) {
    if (!shown(svg)) continue;
    const frame = svg.getBoundingClientRect();
    const drawn = [...svg.querySelectorAll('polyline, circle, polygon')];
    if (drawn.length === 0 || frame.height < 40) say('an empty picture', svg.closest('figure'));
    for (const shape of drawn) {
      if (/NaN|Infinity/.test(shape.outerHTML)) say('a number that is none', svg.closest('figure'));
    }
    const texts = [...svg.querySelectorAll('text')].filter(text => text.textContent.trim()).map(text => [text, text.getBoundingClientRect()]);
    texts.forEach(([text, box], place) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        say(`a text sticks out of "${svg.getAttribute('aria-label')}"`, text);
      for (const [other, its] of texts.slice(place + 1)) {
        const wide = Math.min(box.right, its.right) - Math.max(box.left, its.left);
        const high = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
        if (wide > 1.5 && high > 2.5) faults.push(`"${text.textContent}" and "${other.textContent}" overlap in "${svg.getAttribute('aria-label')}"`);
      }
    });
  }
  for (const title of document.querySelectorAll('h2')) {
    const next = title.nextElementSibling;
    if (!next || next.tagName === 'H2' || next.tagName === 'FOOTER') say('an empty section', title);
  }
  for (const table of document.querySelectorAll('table')) if (table.rows.length === 0) say('an empty table', table);
  return {faults, height: root.scrollHeight, figures: document.querySelectorAll('figure').length};
})()
"""


def wrapped(page: str, width: int, height: int) -> str:
    look = "<script>addEventListener('load', () => parent.postMessage(JSON.stringify(" + LOOK.strip() + "), '*'))</script>"
    inner = page.replace("</body>", look + "</body>")
    return (
        "<!doctype html><meta charset=utf-8><style>html,body{margin:0}iframe{border:0;display:block}</style>"
        "<script>addEventListener('message', e => { const out = document.createElement('pre'); out.id = 'found';"
        " out.textContent = e.data; out.hidden = true; document.body.append(out); })</script>"
        f"<iframe style='width:{width}px;height:{height}px' srcdoc=\"{html.escape(inner, quote=True)}\"></iframe>"
    )


def chromium(browser: str, arguments: list[str], dark: bool) -> str:
    scheme = "--blink-settings=preferredColorScheme=" + ("0" if dark else "1")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", scheme, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--widths", default="1400,400")
    parser.add_argument("--pictures", type=pathlib.Path, help="a folder for a picture of each")
    parsed = parser.parse_args()
    browser = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    if browser is None:
        sys.exit("chromium is not installed")
    page = parsed.page.read_text(encoding="utf-8")
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        for width in map(int, parsed.widths.split(",")):
            for dark in (False, True):
                name = f"{parsed.page.stem}-{width}-{'dark' if dark else 'light'}"
                file = pathlib.Path(folder, "page.html")
                file.write_text(wrapped(page, width, 1000), encoding="utf-8")
                size = f"--window-size={max(width, 500)},1000"
                dom = chromium(browser, [size, "--virtual-time-budget=5000", "--dump-dom", file.as_uri()], dark)
                found = re.search(r'<pre id="found"[^>]*>(.*?)</pre>', dom, re.S)
                if not found:
                    sys.exit(f"{name}: the browser gave no answer")
                seen = json.loads(html.unescape(found[1]))
                for fault in seen["faults"]:
                    print(f"{name}: {fault}")
                faults += len(seen["faults"])
                if parsed.pictures:
                    parsed.pictures.mkdir(parents=True, exist_ok=True)
                    height = seen["height"] + 20
                    file.write_text(wrapped(page, width, height), encoding="utf-8")
                    picture = parsed.pictures / f"{name}.png"
                    size = f"--window-size={max(width, 500)},{height}"
                    chromium(browser, [size, f"--screenshot={picture.absolute()}", file.as_uri()], dark)
                print(f"{name}: {seen['figures']} figures, {seen['height']} high, {len(seen['faults'])} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
