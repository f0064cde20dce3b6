import { render } from "preact";
import { outage } from "./api.js";
import { html } from "./html.js";
import { Compare } from "./pages/compare.js";
import { Datasets } from "./pages/datasets.js";
import { JobPage } from "./pages/job.js";
import { Jobs } from "./pages/jobs.js";
import { NewJob } from "./pages/new.js";
import { SignIn } from "./pages/signin.js";
import { Help } from "./parts/help.js";
import { Link, path } from "./router.js";
import { claims, signOut, start, token } from "./session.js";
import { startShortcuts } from "./shortcuts.js";

function Console() {
  if (!token.value) return html`<${SignIn} />`;
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <${Link} href="/" class="brand">Stoker<//>
      <nav aria-label="Pages">
        <${Link} href="/" aria-current=${path.value === "/" ? "page" : undefined}>Jobs<//>
        <${Link} href="/datasets" aria-current=${path.value === "/datasets" ? "page" : undefined}>Datasets<//>
      </nav>
      <div class="who">
        ${claims.value.subject && html`<span title=${expiry()}>${claims.value.subject}</span>`}
        <button type="button" class="plain" onClick=${() => signOut()}>Sign out</button>
      </div>
    </header>
    <div role="status">
      ${outage.value && html`<p class="outage">The functions do not answer (${outage.value}); waiting. What you see may be old.</p>`}
    </div>
    <main id="main" tabindex="-1"><${Page} /></main>
    <${Help} />`;
}

function Page() {
  const [, section, id] = path.value.split("/");
  if (!section) return html`<${Jobs} />`;
  if (section === "jobs" && id) return html`<${JobPage} key=${id} id=${decodeURIComponent(id)} />`;
  if (section === "compare") return html`<${Compare} />`;
  if (section === "datasets") return html`<${Datasets} />`;
  if (section === "new") return html`<${NewJob} />`;
  return html`<p class="empty">There is no such page. <${Link} href="/">Show all jobs<//></p>`;
}

function expiry() {
  const at = claims.value.expiresAt;
  return at ? `The token expires on ${at.toLocaleString("en-GB")}` : "";
}

function skip(/** @type {Event} */ event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

start();
startShortcuts();
render(html`<${Console} />`, document.body);
