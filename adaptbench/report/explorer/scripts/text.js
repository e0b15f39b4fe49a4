// Every element of the page is made here, and text only ever becomes text: nothing here reads HTML.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function button(text, action, attributes = {}) {
  const element = make("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", action);
  return element;
}

// A name between words of ours: isolated, so that marks for right-to-left text reorder nothing beside it.
function name(text) {
  return make("bdi", {}, text);
}

function options(select, entries, chosen) {
  const groups = new Map();
  select.replaceChildren();
  for (const { value, text, group } of entries) {
    const option = make("option", { value }, text);
    if (group && !groups.has(group)) {
      groups.set(group, make("optgroup", { label: group }));
      select.append(groups.get(group));
    }
    (group ? groups.get(group) : select).append(option);
  }
  if (entries.some(({ value }) => value === chosen)) select.value = chosen;
}

function labelled(text, control, attributes = {}) {
  return make("label", attributes, text + " ", control);
}

// The text's start and end, cut between characters and never inside one.
function ends(text, head, tail) {
  const high = (code) => code >= 0xd800 && code < 0xdc00;
  const low = (code) => code >= 0xdc00 && code < 0xe000;
  if (high(text.charCodeAt(head - 1))) head -= 1;
  let start = text.length - tail;
  if (tail && low(text.charCodeAt(start))) start += 1;
  return [text.slice(0, head), tail ? text.slice(start) : ""];
}

// Text of any length: what is long is cut, with a button that shows all of it. `fill(element, text)` puts it in.
function longText(text, { head = 1500, tail = 0, fill = (element, part) => element.append(part), kind = "" } = {}) {
  const box = make("div", { class: `text ${kind}` });
  if (text === "") {
    box.append(make("span", { class: "quiet" }, "(empty)"));
    return box;
  }
  if (text.length <= head + tail + 200) {
    fill(box, text);
    return box;
  }
  const [start, end] = ends(text, head, tail);
  fill(box, start);
  box.append(make("span", { class: "quiet" }, " … "));
  if (end) fill(box, end);
  const all = button(`Show all ${text.length.toLocaleString("en")} characters`, () => {
    box.replaceChildren();
    fill(box, text);
  });
  box.append(make("div", {}, all));
  return box;
}

const NUMBER = { maximumFractionDigits: 3, minimumFractionDigits: 3 };

function number(value, form = "score") {
  if (value === undefined) return "";
  if (value === null || !Number.isFinite(value)) return "not a number";
  if (form === "seconds") return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 0 });
  if (form === "bytes" || form === "count") {
    const steps = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
    const [size, prefix] = steps.find(([step]) => Math.abs(value) >= step) ?? [1, ""];
    return `${Number((value / size).toPrecision(3))} ${prefix}${form === "bytes" ? "B" : ""}`.trim();
  }
  if (Math.abs(value) >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
  return (value === 0 ? 0 : value).toLocaleString("en", NUMBER);
}
