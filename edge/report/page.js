"use strict";
function sortBy(button) {
  const header = button.parentElement, table = header.closest("table"), body = table.tBodies[0];
  const column = header.cellIndex, up = header.getAttribute("aria-sort") !== "ascending";
  const value = (row) => row.cells[column].dataset.value;
  const text = (row) => row.cells[column].textContent.trim();
  const compare = (one, other) => {
    const a = value(one), b = value(other);
    if (a === undefined || b === undefined) {
      if (a !== b) return a === undefined ? 1 : -1;
      return (up ? 1 : -1) * text(one).localeCompare(text(other), "en", { numeric: true });
    }
    return (up ? 1 : -1) * (Number(a) - Number(b));
  };
  for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...[...body.rows].sort(compare));
}
for (const button of document.querySelectorAll("th > button")) button.addEventListener("click", () => sortBy(button));

// paper has everything open
const folded = () => document.querySelectorAll("details:not([open])");
let opened = [];
window.addEventListener("beforeprint", () => { opened = [...folded()]; for (const part of opened) part.open = true; });
window.addEventListener("afterprint", () => { for (const part of opened) part.open = false; });

// a table that is wider than its place says so
const mark = () => { for (const part of document.querySelectorAll(".scroll")) part.classList.toggle("wide", part.scrollWidth > part.clientWidth + 1); };
window.addEventListener("resize", mark);
document.addEventListener("toggle", mark, true);
mark();
