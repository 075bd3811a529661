// Before the first paint: the theme and language chosen earlier, so that nothing flashes.
(function () {
  try {
    var theme = localStorage.getItem("llamascope.theme");
    var lang = localStorage.getItem("llamascope.lang");
    if (theme === "light" || theme === "dark" || theme === "contrast") document.documentElement.dataset.theme = theme;
    if (lang === "ja" || lang === "en") document.documentElement.lang = lang;
  } catch (_) {}
})();
