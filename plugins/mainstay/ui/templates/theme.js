// Airflow shows this page in a frame: follow its theme, which a person may have set against that of the system.
try {
  const outside = window.parent.document.documentElement;
  const follow = () => {
    const theme = outside.classList.contains("dark") ? "dark" : outside.classList.contains("light") ? "light" : "";
    if (theme) document.documentElement.dataset.theme = theme;
  };
  new MutationObserver(follow).observe(outside, { attributeFilter: ["class"] });
  follow();
} catch {
  // Shown by somebody else, who keeps their theme to themselves: the system's holds.
}
