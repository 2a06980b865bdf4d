// Shows /status.json, asked for once a second while the page is visible.
// Every value goes in as text: what a peer or an operator wrote never becomes markup.
"use strict";

const EVERY_MS = 1000;
const GIVE_UP_MS = 4000; // a daemon that takes longer counts as away
const SLOWEST_MS = 10000; // between two tries while it is away

const VERDICTS = {
  flowing: ["✓", "Emergencies flow"],
  late: ["!", "Emergencies are late"],
  stopped: ["✕", "Emergencies are stopped"],
  unknown: ["?", "Not known yet"],
  away: ["✕", "The daemon does not answer"],
};
const LATE_AFTER_S = 10; // both as dispatcher/status.py has them: a test compares
const STALE_AFTER_S = 15;

let shown = null; // the last document
let shownAt = 0; // performance.now() when it came
let failures = 0;
let timer = 0;
let asking = null;

function number(value) {
  if (value === null) return "–";
  return value.toLocaleString("en-GB", { maximumFractionDigits: 1 });
}

function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} days`;
}

function put(parent, field, text) {
  const element = parent.querySelector(`[data-field="${field}"]`);
  const value = String(text);
  if (element.textContent !== value) element.textContent = value; // an unchanged live region stays silent
}

function grade(parent, fact, level) {
  parent.querySelector(`[data-fact="${fact}"]`).dataset.level = level;
}

function rows(name, entries, fill) {
  const place = document.querySelector(`[data-rows="${name}"]`);
  const template = document.getElementById(name).content.firstElementChild;
  while (place.children.length > entries.length) place.lastElementChild.remove();
  while (place.children.length < entries.length) place.append(template.cloneNode(true));
  entries.forEach((entry, at) => fill(place.children[at], entry));
}

function bar(gauge, value, whole, limit) {
  const share = (part) => `${whole > 0 ? Math.min(100, (100 * part) / whole) : 0}%`;
  gauge.querySelector(".fill").style.width = share(value ?? 0);
  const mark = gauge.querySelector(".limit");
  if (mark) {
    mark.hidden = limit === null || limit >= whole;
    mark.style.left = share(limit ?? 0);
  }
}

function showBanner(status) {
  const [sign, verdict] = VERDICTS[status.emergencies.state] ?? VERDICTS.unknown;
  const flow = status.emergencies.state in VERDICTS ? status.emergencies.state : "unknown";
  document.body.dataset.flow = flow;
  put(document, "sign", sign);
  put(document, "verdict", verdict);
  put(document, "reasons", status.emergencies.reasons.join("; "));
  document.title = `${sign} tocsin ${status.instance}`;

  const banner = document.querySelector(".banner");
  const urgent = status.lanes.find((lane) => lane.lane === 0);
  const waiting = urgent ? urgent.jobs : null;
  put(banner, "oldest", waiting === 0 ? "none waits" : duration(urgent ? urgent.oldest_s : null));
  put(banner, "oldest-more", waiting ? `${count(urgent)} in lane 0` : "lane 0");
  grade(banner, "oldest", waiting === null ? "unknown" : urgent.oldest_s > LATE_AFTER_S ? "bad" : "good");

  const bound = status.links.filter((link) => link.state === "bound" && lives(link)).length;
  const paused = status.links.filter((link) => link.paused).length;
  put(banner, "bound", `${bound} of ${status.links.length}`);
  put(banner, "bound-more", paused ? `${paused} paused` : bound < status.links.length ? "see below which" : "all of them");
  grade(banner, "bound", bound === 0 ? "bad" : bound < status.links.length || paused ? "warn" : "good");

  const up = status.database === "up";
  put(banner, "database", up ? "up" : "away");
  put(banner, "database-more", up ? `${number(status.unsettled)} outcomes to write` : status.database);
  grade(banner, "database", up ? "good" : "bad");

  put(banner, "uncertain", number(status.uncertain_segments));
  put(banner, "uncertain-more", "segments written, unanswered");
  grade(banner, "uncertain", status.uncertain_segments === null ? "unknown" : status.uncertain_segments ? "warn" : "good");
}

function count(lane) {
  return (lane.at_least ? "≥ " : "") + number(lane.jobs);
}

function lives(link) {
  return link.owner === "this" || (link.owner === "another" && link.beat_age_s !== null && link.beat_age_s < STALE_AFTER_S);
}

function showLink(element, link) {
  const carries = link.state === "bound" && !link.paused && lives(link);
  element.dataset.level = carries ? "good" : link.paused ? "warn" : "bad";
  put(element, "mark", carries ? "✓" : link.paused ? "Ⅱ" : "✕");
  put(element, "name", link.name);
  put(element, "state", `${link.state}${link.paused ? ", paused" : ""} for ${duration(link.state_for_s)}`);
  const owner = { this: "owned here", another: `owned by instance ${link.owner_instance}`, nobody: "owned by nobody" }[link.owner];
  const beat = link.beat_age_s === null ? "" : `, last sign of life ${duration(link.beat_age_s)} ago`;
  const held = link.held_for_s ? `; held for ${duration(link.held_for_s)} by ESME_RTHROTTLED` : "";
  put(element, "why", `${owner}${beat}${link.state === "bound" ? "" : link.state_detail ? `; ${link.state_detail}` : ""}${held}`);
  element.classList.toggle("elsewhere", link.configured_per_s === null);

  put(element, "rate", number(link.segments_per_s));
  const lowered = link.limit_per_s !== null && link.limit_per_s < link.configured_per_s;
  const limit = `limit ${lowered ? "now " : ""}${number(link.limit_per_s)}, of it ${number(link.reserved_per_s)} for lane 0 alone`;
  put(element, "rate-more", lowered ? `${limit}; configured ${number(link.configured_per_s)}` : limit);
  const rate = element.querySelector('[data-gauge="rate"]');
  rate.dataset.level = lowered ? "warn" : "";
  bar(rate, link.segments_per_s, link.configured_per_s, link.limit_per_s);
  put(element, "window", number(link.window_in_use));
  put(element, "window-more", `of ${number(link.window_size)} segments unanswered at once`);
  bar(element.querySelector('[data-gauge="window"]'), link.window_in_use, link.window_size, null);

  put(element, "sessions", `${number(link.sessions_bound)} of ${number(link.sessions_configured)}`);
  put(element, "receipts", number(link.receipts_matched_total));
  put(element, "receipts-more", link.receipts_per_s === null ? "" : `${number(link.receipts_per_s)}/s`);
  put(element, "unmatched", number(link.receipts_unmatched_total));
  put(element, "throttled", number(link.throttled_total));
  put(element, "unanswered", number(link.unanswered_total));
  put(element, "doubt", number(link.uncertain_segments));
  grade(element, "unmatched", link.receipts_unmatched_total ? "warn" : "");
  grade(element, "doubt", link.uncertain_segments ? "warn" : "");
}

function showLane(element, lane) {
  const isLate = lane.lane === 0 && lane.oldest_s > LATE_AFTER_S;
  element.dataset.level = isLate ? "bad" : "";
  put(element, "lane", lane.lane);
  const named = lane.categories.map((name) => (lane.paused.includes(name) ? `${name} (paused)` : name));
  put(element, "categories", named.join(", ") || "–");
  put(element, "jobs", count(lane));
  put(element, "oldest", lane.jobs === 0 ? "–" : duration(lane.oldest_s) + (isLate ? " (late)" : ""));
}

function showEvent(element, event, readAge) {
  put(element, "type", event.type);
  put(element, "what", [event.category, event.reason].filter(Boolean).join(", "));
  put(element, "times", number(event.events));
  const subject = event.type.startsWith("job.") || event.type === "operator.requeue" ? `job ${event.subject}` : event.subject;
  put(element, "latest", `${subject}, ${duration(Math.max(0, event.age_s) + readAge)} ago`);
}

function show(status) {
  put(document, "instance", status.instance);
  const missing = status.missing.length ? `not ready: ${status.missing.join("; ")}` : "ready";
  put(document, "about", `${missing} · version ${status.version} · up for ${duration(status.up_for_s)} · schema ${status.schema}`);
  showBanner(status);
  rows("links", status.links, showLink);
  rows("lanes", status.lanes, showLane);
  showRead(status, 0);
  put(document, "paused", status.paused_categories.length ? `Paused: ${status.paused_categories.join(", ")}` : "");
}

function showRead(status, shownFor) {
  const age = status.read_age_s === null ? null : status.read_age_s + shownFor;
  const words = age === null ? "not read yet" : `read ${duration(age)} ago`;
  put(document, "read-age", words);
  put(document, "events-age", `of the last 200, ${words}`);
  rows("events", status.events, (element, event) => showEvent(element, event, age));
}

function showAway() {
  const [sign, verdict] = VERDICTS.away;
  document.body.dataset.flow = "away";
  put(document, "sign", sign);
  put(document, "verdict", verdict);
  document.title = `${sign} tocsin`;
  tick();
}

function tick() {
  const age = shown === null ? null : (performance.now() - shownAt) / 1000;
  if (failures > 0) {
    if (shown !== null) showRead(shown, age);
    put(document, "reasons", age === null ? "It never did since this page was opened." : `What is shown below is ${duration(age)} old.`);
    put(document, "age", age === null ? "no answer" : `shown: ${duration(age)} old`);
  } else if (age !== null) {
    put(document, "age", age < 3 ? "live" : `${duration(age)} old`);
  }
}

async function ask() {
  asking = new AbortController();
  const patience = setTimeout(() => asking.abort(), GIVE_UP_MS);
  try {
    const answer = await fetch("/status.json", { cache: "no-store", signal: asking.signal });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const status = await answer.json();
    show(status);
    shown = status;
    shownAt = performance.now();
    failures = 0;
  } catch {
    failures += 1;
    showAway();
  } finally {
    clearTimeout(patience);
    asking = null;
  }
}

async function turn() {
  clearTimeout(timer);
  if (document.hidden || asking) return; // nobody looks: nothing is asked
  await ask();
  timer = setTimeout(turn, Math.min(SLOWEST_MS, EVERY_MS * 2 ** Math.min(failures, 4)));
}

document.addEventListener("visibilitychange", turn);
window.addEventListener("pageshow", turn);
setInterval(tick, 500);
turn();
