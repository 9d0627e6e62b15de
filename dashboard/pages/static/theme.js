// Runs before anything is painted: light or dark, as chosen, else as the machine has it.
(() => {
  const root = document.documentElement;
  const machine = window.matchMedia("(prefers-color-scheme: dark)");
  const set = () => {
    root.dataset.theme = localStorage.getItem("theme") || (machine.matches ? "dark" : "light");
  };
  set();
  machine.addEventListener("change", () => {
    set();
    document.dispatchEvent(new CustomEvent("theme"));
  });
})();
