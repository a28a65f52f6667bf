// Starts the player of a report, or makes the table of an index sortable.

"use strict";

const description = document.getElementById("player-description");
if (description) {
  const holder = document.getElementById("player");
  const player = new AudioaePlayer(holder, JSON.parse(description.textContent));
  document.addEventListener("keydown", (event) => player.handleKey(event));
  window.audioaePlayer = player;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    header.querySelector("button")?.addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((each) => each.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...body.rows];
      rows.sort((first, second) => {
        const [left, right] = [first, second].map((row) => row.cells[column].dataset.value);
        if (left === "" || right === "") return (left === "") - (right === ""); // unknown: last
        const order = header.dataset.kind === "number" ? left - right : left.localeCompare(right);
        return descending ? -order : order;
      });
      body.append(...rows);
    });
  });
}

const filter = document.getElementById("filter");
filter?.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase();
  let shown = 0;
  for (const row of document.querySelectorAll("table.sortable tbody tr")) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
    shown += !row.hidden;
  }
  document.getElementById("count").textContent = `${shown} shown`;
});
