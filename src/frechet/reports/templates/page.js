"use strict";
const zoom = document.getElementById("zoom");

function show(button) {
  const image = button.firstElementChild.cloneNode(true);
  document.getElementById("zoom-image").replaceChildren(image);
  document.getElementById("zoom-name").textContent = button.dataset.name;
  zoom.showModal();
}

function sort(button) {
  const cell = button.closest("th");
  const column = Number(cell.dataset.column ?? cell.cellIndex);
  const body = cell.closest("table").tBodies[0];
  const ascending = cell.getAttribute("aria-sort") !== "ascending";
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y) ? x - y : a.localeCompare(b);
  };
  const rows = [...body.rows].sort((a, b) => (ascending ? 1 : -1) * compare(key(a), key(b)));
  for (const other of cell.closest("thead").querySelectorAll("th")) other.removeAttribute("aria-sort");
  cell.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...rows);
}

async function copy(button) {
  const source = document.getElementById(button.dataset.from);
  getSelection().selectAllChildren(source);
  const done = navigator.clipboard
    ? await navigator.clipboard.writeText(source.textContent).then(() => true, () => false)
    : document.execCommand("copy");
  button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches(".thumbnail, .plot")) show(button);
  else if (button.matches(".sort")) sort(button);
  else if (button.matches(".copy")) copy(button);
});
