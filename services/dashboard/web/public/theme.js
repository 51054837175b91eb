// Runs before the first paint, so that the page does not flash in the wrong theme.
(() => {
  let choice = null;
  try {
    choice = localStorage.getItem("sightline.theme");
  } catch {
    // Storage may be forbidden; the system's preference then decides.
  }
  const dark = choice === "dark" || (choice !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
