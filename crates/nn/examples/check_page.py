"""Opens the page of the example `page` in a headless Chromium and uses it: chooses operations, follows the
links to gradients and back, searches, folds.

    cargo run -p backprop-nn --example page -- FOLDER
    python3 crates/nn/examples/check_page.py FOLDER
"""

import pathlib
import re
import subprocess
import sys

# What a reader does, and what has to come of it. It runs in the page, and leaves what failed in the title.
STEPS = """
<script>
"use strict";
(() => {
const failed = [];
const check = (what, holds) => { if (!holds) failed.push(what); };
const one = selector => document.querySelector(selector);
const rows = () => [...document.querySelectorAll(".row")];
const seen = () => rows().filter(row => row.style.display !== "none");
const search = words => {
  one("#search").value = words;
  one("#search").dispatchEvent(new Event("input"));
};
const cell = name => [...document.querySelectorAll("#shown td")].find(td => td.textContent === name)?.nextSibling;

const all = rows().length;
check("there are operations", all > 100 && seen().length === all);
search("block2 softmax");
check("a search finds nothing that is not there", seen().length === 0);
search("block2 attention");
check("a search finds what is there", seen().length > 0 && seen().length < all);
check("a search opens folders", one('details[data-scope="block2"]').open);
const attention = seen().find(row => row.textContent.startsWith("attention"));
attention.click();
check("a click shows an operation", one("#shown h2").textContent === "attention");
check("a click marks the row", attention.classList.contains("chosen"));
check("its type is shown", /^f32\\[/.test(cell("result").textContent));
check("its bytes are shown", /B$/.test(cell("bytes").textContent));
check("its place is shown", /page\\.rs:\\d+:\\d+$/.test(cell("place").textContent));
check("its scope is shown", cell("scope").textContent === "block2");
check("its time is shown", /s a step/.test(cell("time").textContent));
const id = attention.dataset.id;
cell("gradient").querySelector("a").click();
check("a link leads to the gradient", one("#shown h2").textContent === "gradient of attention");
cell("gradient of").querySelector("a").click();
check("and back", location.hash === "#" + id);
one("#shown svg g").dispatchEvent(new MouseEvent("click"));
check("a box leads on", location.hash !== "#" + id);
search("");
check("an empty search finds all", seen().length === all);
one("#fold").click();
check("folders fold", document.querySelectorAll("details[open]").length === 1);
one("#unfold").click();
check("folders unfold", document.querySelectorAll("details:not([open])").length === 0);
document.title = failed.length ? "failed: " + failed.join("; ") : "passed";
})();
</script>
"""


def main() -> int:
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    page = (folder / "graph.html").read_text()
    tried = folder / "graph-tried.html"
    tried.write_text(page.replace("</body>", STEPS + "</body>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu"]
    dump = subprocess.run(
        [*command, "--dump-dom", tried.as_uri()], capture_output=True, text=True, timeout=300
    )
    title = re.search(r"<title>(.*?)</title>", dump.stdout)
    print(title.group(1) if title else "the browser gave no page: " + dump.stderr[-400:])
    shot = folder / "graph.png"
    subprocess.run(
        [*command, "--window-size=1500,950", f"--screenshot={shot}", tried.as_uri()],
        capture_output=True,
        timeout=300,
    )
    return 0 if title and title.group(1) == "passed" else 1


if __name__ == "__main__":
    sys.exit(main())
