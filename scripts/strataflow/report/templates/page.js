// Draws the charts and switches the language; everything else on the page is plain HTML.
(() => {
  "use strict";
  const root = document.documentElement;
  const { config, charts } = JSON.parse(document.getElementById("charts").textContent);
  const tongues = { en: "en", zh: "zh-Hans" };
  const drawn = new Map();
  let round = 0;

  // Some browsers refuse storage to a page opened from a file.
  const remembered = () => { try { return localStorage.getItem("report-language"); } catch { return null; } };
  const remember = (language) => { try { localStorage.setItem("report-language", language); } catch { /* not kept */ } };

  const first = () => {
    const asked = new URLSearchParams(location.search).get("lang") || remembered();
    if (asked in tongues) return asked;
    return (navigator.language || "").toLowerCase().startsWith("zh") ? "zh" : "en";
  };

  const draw = async (key, language) => {
    const element = document.getElementById(`chart-${key}`);
    const chart = charts[key];
    const title = element.dataset[language === "en" ? "titleEn" : "titleZh"];
    const own = chart[language];
    const spec = { ...own, datasets: { ...own.datasets, ...chart.datasets }, description: title };
    drawn.get(key)?.finalize();
    drawn.set(key, await window.vegaEmbed(element, spec, {
      actions: false, config, mode: "vega-lite", renderer: "svg", tooltip: { theme: "report" },
    }));
  };

  const show = async (language) => {
    const mine = ++round;
    root.lang = tongues[language];
    delete root.dataset.drawn;
    document.title = root.dataset[language === "en" ? "titleEn" : "titleZh"];
    for (const button of document.querySelectorAll("button[data-language]")) {
      button.setAttribute("aria-pressed", String(button.dataset.language === language));
    }
    for (const key of Object.keys(charts)) {
      await draw(key, language);
      if (mine !== round) return;
    }
    root.dataset.drawn = language;
  };

  for (const button of document.querySelectorAll("button[data-language]")) {
    button.addEventListener("click", () => {
      remember(button.dataset.language);
      show(button.dataset.language);
    });
  }

  // The section being read is marked in the contents.
  const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      const link = links.get(target.id);
      link.setAttribute("aria-current", "true");
      link.parentElement.scrollTo({ left: link.offsetLeft - 16 });
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const section of document.querySelectorAll("main section")) watcher.observe(section);

  show(first());
})();
