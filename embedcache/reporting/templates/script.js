"use strict";
document.documentElement.classList.add("js");

// Sort a leaderboard, largest first; rows without a value stay at the end.
for (const choice of document.querySelectorAll("[data-sort]")) {
  choice.addEventListener("change", () => {
    const body = choice.closest(".tools").nextElementSibling.tBodies[0];
    const worth = (row) => (row.dataset[choice.value] === "" ? -Infinity : Number(row.dataset[choice.value]));
    body.append(...[...body.rows].sort((a, b) => worth(b) - worth(a)));
  });
}

// Show the rows of one arm, or of all.
for (const choice of document.querySelectorAll("[data-filter]")) {
  choice.addEventListener("change", () => {
    for (const row of choice.closest(".tools").nextElementSibling.tBodies[0].rows) {
      row.hidden = choice.value !== "" && row.dataset.arm !== choice.value;
    }
  });
}

// Copy a text; where a browser forbids it, select it instead.
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(text.innerText);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: press Ctrl+C";
    }
  });
}

// A link into a folded part unfolds it.
const unfold = () => {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  for (let part = target; part; part = part.parentElement) {
    if (part.tagName === "DETAILS") part.open = true;
  }
};
addEventListener("hashchange", unfold);
unfold();
