import { render } from "preact";
import { outage } from "./api.js";
import { html } from "./html.js";
import { Compare } from "./pages/compare.js";
import { DatasetPage } from "./pages/dataset.js";
import { Datasets } from "./pages/datasets.js";
import { JobPage } from "./pages/job.js";
import { Jobs } from "./pages/jobs.js";
import { NewJob } from "./pages/new.js";
import { SignedIn, SignIn, SignInAgain } from "./pages/signin.js";
import { Help } from "./parts/help.js";
import { Link, open, path } from "./router.js";
import { claims, isAccepted, isSignedIn, isSigningIn, leave, start } from "./session.js";
import { startShortcuts } from "./shortcuts.js";

function Console() {
  if (isSigningIn.value)
    return html`<main id="main" class="signin"><h1>Stoker</h1><p role="status">Signing in …</p></main>`;
  if (!isSignedIn.value && !isAccepted.value) return html`<${SignIn} />`;
  return html`<a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <${Link} href="/" class="brand">Stoker<//>
      ${
        claims.value.jobId
          ? html`<p class="guest">Read-only link to one job</p>`
          : html`<nav aria-label="Pages">
              <${Link} href="/" aria-current=${path.value === "/" ? "page" : undefined}>Jobs<//>
              <${Link} href="/datasets" aria-current=${path.value === "/datasets" ? "page" : undefined}>Datasets<//>
            </nav>`
      }
      <div class="who">
        ${claims.value.subject && html`<span title=${expiry()}>${claims.value.jobId && "from "}${claims.value.subject}</span>`}
        <button type="button" class="plain" onClick=${leave}>${claims.value.jobId ? "Sign in" : "Sign out"}</button>
      </div>
    </header>
    <div role="status">
      ${outage.value && html`<p class="outage">The functions do not answer (${outage.value}); waiting. This page may be out of date.</p>`}
    </div>
    <main id="main" tabindex="-1"><${Page} /></main>
    <${Help} />
    ${!isSignedIn.value && html`<${SignInAgain} />`}`;
}

function Page() {
  const [, section, id] = path.value.split("/");
  const only = claims.value.jobId;
  if (only && !(section === "jobs" && id === only)) {
    return html`<p class="empty">This link is for one job. <${Link} href=${`/jobs/${only}`}>Show it<//></p>`;
  }
  if (!section) return html`<${Jobs} />`;
  if (section === "jobs" && id) return html`<${JobPage} key=${id} id=${decodeURIComponent(id)} />`;
  if (section === "compare") return html`<${Compare} />`;
  if (section === "datasets" && id) return html`<${DatasetPage} key=${id} name=${decodeURIComponent(id)} />`;
  if (section === "datasets") return html`<${Datasets} />`;
  if (section === "new") return html`<${NewJob} />`;
  if (section === "sign-in") return html`<${SignedIn} />`;
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

start((address) => open(address, { replace: true }));
startShortcuts();
render(html`<${Console} />`, document.body);
