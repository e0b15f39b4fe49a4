// The markers of the project's figures, for the table and for the plot. Names on the left are matplotlib's.

const PLOTTED = {
  o: "circle", s: "square", D: "diamond", "^": "triangle-up", v: "triangle-down", P: "cross", X: "x", "<": "triangle-left",
  ">": "triangle-right", h: "hexagon", "*": "star", "|": "line-ns-open", _: "line-ew-open", x: "x-thin-open", "+": "cross-thin-open",
};
const STAR = "M8 1.5 9.9 6h4.8l-3.9 3 1.5 4.8L8 11l-4.3 2.8 1.5-4.8-3.9-3h4.8z";
const PATHS = {
  o: "M8 3a5 5 0 1 0 .01 0z", s: "M3.5 3.5h9v9h-9z", D: "M8 2l6 6-6 6-6-6z", "^": "M8 2.5l6 11H2z", v: "M8 13.5l6-11H2z",
  P: "M6 2.5h4V6h3.5v4H10v3.5H6V10H2.5V6H6z", X: "M5 2l3 3 3-3 3 3-3 3 3 3-3 3-3-3-3 3-3-3 3-3-3-3z",
  "<": "M2.5 8l11-6v12z", ">": "M13.5 8l-11-6v12z", h: "M8 2l5.2 3v6L8 14l-5.2-3V5z", "*": STAR,
};
const LINES = { "|": "M8 2v12", _: "M2 8h12", x: "M3 3l10 10M13 3L3 13", "+": "M8 2v12M2 8h12" };

// The base is black in print; on a dark page it is white.
function colour(look) {
  return look.color === "black" ? getComputedStyle(document.documentElement).getPropertyValue("--ink").trim() : look.color;
}

function swatch(look) {
  const make = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const shown = look.color === "black" ? "currentColor" : look.color;
  const svg = make("svg", { viewBox: "0 0 16 16", class: "swatch", "aria-hidden": "true" });
  const line = LINES[look.marker];
  svg.append(make("path", line ? { d: line, stroke: shown, "stroke-width": 2.5, fill: "none" } : { d: PATHS[look.marker] ?? PATHS.o, fill: shown }));
  return svg;
}
