// The page: what is shown at which address, and what is around it.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { begin, Problem, SessionContext, source } from "./api";
import icon from "./icon.svg";
import { date } from "./format";
import { apply, toggle, useTheme } from "./theme";
import type { Session } from "./types";
import { linkTo, usePlace } from "./url";
import { ComparePage } from "./views/compare";
import { Help } from "./views/help";
import { Login } from "./views/login";
import { RunView } from "./views/run";
import { TableView } from "./views/table";

function App() {
  const [session, setSession] = useState<Session | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const start = () => {
    setProblem(null);
    begin().then(setSession, (error) => setProblem(error instanceof Problem ? error.message : String(error)));
  };
  useEffect(start, []);
  if (problem) {
    return (
      <main class="alone">
        <p class="error">{problem}</p>
        <button onClick={start}>try again</button>
      </main>
    );
  }
  if (!session) return null;
  if (!session.reads) return <Login onDone={start} />;
  return (
    <SessionContext.Provider value={session}>
      <Header session={session} />
      <View />
      <Help />
    </SessionContext.Provider>
  );
}

function Header({ session }: { session: Session }) {
  const dark = useTheme();
  return (
    <header class="top">
      <a class="brand" {...linkTo("/")}>
        <img src={icon} width="20" height="20" alt="" /> pipe
      </a>
      <span class="roots" title={session.roots.join("\n")}>
        {session.roots.join("  ")}
      </span>
      <span class="grow" />
      {!source.served && (
        <span class="badge" title={session.left_out?.join("\n")}>
          a file of {date(session.made ?? 0)}
        </span>
      )}
      {source.served && !session.writes && (
        <span class="badge" title="Open the address that `pipe ui` printed, with what follows its #, to change names, tags and notes, and to steer runs">
          read only
        </span>
      )}
      <button class="quiet" onClick={() => dispatchEvent(new CustomEvent("pipe-help"))} title="keys (?)" aria-label="keys">
        ?
      </button>
      <button class="quiet" onClick={toggle} title={dark ? "light" : "dark"} aria-label={dark ? "light colours" : "dark colours"}>
        {dark ? "☀" : "☾"}
      </button>
    </header>
  );
}

function View() {
  const { path } = usePlace();
  const run = /^\/run\/([0-9a-f]+)(?:\/([a-z]+))?$/.exec(path);
  if (path === "/") return <TableView />;
  if (path === "/compare") return <ComparePage />;
  if (run) return <RunView key={run[1]} id={run[1]!} tab={run[2] ?? "curves"} />;
  return (
    <main class="alone">
      <p>There is no such view.</p>
      <a {...linkTo("/")}>All runs</a>
    </main>
  );
}

apply();
const host = document.getElementById("app");
if (host) render(<App />, host);
