// One answer: an episode as a transcript by role, reasoning with its latent tokens marked, anything else as it is.

function latentTokens(element, text) {
  const mark = data.latent;
  let from = 0;
  while (from < text.length) {
    let at = text.indexOf(mark, from);
    if (at < 0) at = text.length;
    if (at > from) element.append(text.slice(from, at));
    let count = 0;
    while (text.startsWith(mark, at)) {
      at += mark.length;
      count += 1;
    }
    if (count) {
      const said = count === 1 ? "1 latent token" : `${count} latent tokens`;
      element.append(make("mark", { class: "latent", "data-tip": `${said}: thought without a word`, "aria-label": said }, "◆".repeat(Math.min(count, 8)) + (count > 8 ? ` ×${count}` : "")));
    }
    from = at;
  }
}

// The episode in an answer, or null where it is none that can be read.
function episode(text) {
  try {
    const played = JSON.parse(text);
    return played !== null && typeof played === "object" && Array.isArray(played.steps) ? played : null;
  } catch {
    return null;
  }
}

function spoken(role, text, kind = role) {
  return make("div", { class: `said ${kind}` }, make("span", { class: "role" }, role), longText(text, { head: 800 }));
}

function transcript(played) {
  const text = (value) => (value === undefined || value === null ? "" : typeof value === "string" ? value : JSON.stringify(value));
  const list = make("ol", { class: "transcript" });
  for (const step of played.steps.slice(0, 200)) {
    const of = (field) => text(step !== null && typeof step === "object" ? step[field] : undefined);
    const item = make("li", {}, spoken("planner", of("thought") || "(no thought)"));
    if (of("decision") === "caller") {
      const observed = of("observation");
      item.append(spoken("caller", `${of("action") || "(no call)"} ${of("arguments")}`));
      item.append(spoken("tool", observed, observed.startsWith("error: ") ? "tool error" : "tool"));
    } else if (of("decision") === "summarizer") {
      item.append(spoken("summarizer", of("answer")));
    } else {
      item.append(spoken("planner", "gives up"));
    }
    list.append(item);
  }
  const end = make("p", { class: "quiet" }, "Ended: ", name(text(played.stopped).slice(0, 200)), `, ${played.steps.length} steps`);
  return make("div", {}, list, end);
}

function answer(text, task) {
  const played = task.episodes ? episode(text) : null;
  return played ? transcript(played) : longText(text, { fill: latentTokens });
}
