// Keeps the page of a request that goes on up to date. Without it the page tells how things stood when it came.
"use strict";
const table = document.querySelector("[data-events]");
const source = new EventSource(table.dataset.events);

function show(id, text) {
  const cell = document.getElementById(id);
  if (cell) cell.textContent = text;
}

function count(number) {
  return Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function showCounts(news) {
  show("files", `${count(news.files)} known, ${count(news.delivered)} done, ${count(news.failed)} failed`);
}

function time(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `${Math.ceil(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

source.addEventListener("state", (event) => {
  const news = JSON.parse(event.data);
  show("state", news.state);
  showCounts(news);
});

source.addEventListener("progress", (event) => {
  const news = JSON.parse(event.data);
  showCounts(news);
  const pace = [`${news.files_per_s.toFixed(1)} files/s`, `${news.input_mb_per_s.toFixed(1)} MB/s read`];
  if (news.events_per_s !== null) pace.push(`${count(news.events_per_s)} events/s`);
  if (news.eta_s !== null) pace.push(`about ${time(news.eta_s)} left`);
  show("pace", news.lacks_workers ? "no worker is connected" : pace.join(", "));
});

source.addEventListener("end", () => {
  source.close();
  location.reload();
});
