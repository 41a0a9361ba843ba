// Some runs beside each other.
import { useEffect, useMemo, useState } from "preact/hooks";
import { LiveContext, useChanged, useData, useLive } from "../api";
import { Controls, Grid, Legend, type Shown, useSettings } from "../curves";
import { date, duration, num, short, text } from "../format";
import { Empty, Failure, Offline, StatusBadge, Tabs } from "../parts";
import type { Comparison, Json, RunPage } from "../types";
import { linkTo, setParams, usePlace } from "../url";
import { Parallel } from "./parallel";
import { useKeys } from "./help";
import { Console } from "./run/console";
import { Edits } from "./run/edits";
import { Images } from "./run/images";

type Tab = "curves" | "options" | "metrics" | "plot" | "images" | "console" | "edits";
const TABS: [Tab, string][] = [
  ["curves", "Curves"],
  ["options", "Options"],
  ["metrics", "Metrics"],
  ["plot", "Options against metrics"],
  ["images", "Images"],
  ["console", "Consoles"],
  ["edits", "Edits"],
];

export function ComparePage() {
  const { params } = usePlace();
  const ids = params.get("runs") ?? "";
  const { live, connected } = useLive(ids ? `runs=${ids}` : null);
  if (!ids) {
    return (
      <main class="alone">
        <p>
          Choose runs in <a {...linkTo("/")}>the table</a>, then compare them.
        </p>
      </main>
    );
  }
  return (
    <LiveContext.Provider value={live}>
      <main class="compare">
        <Offline connected={connected} />
        <Loaded ids={ids} />
      </main>
    </LiveContext.Provider>
  );
}

function Loaded({ ids }: { ids: string }) {
  const { params } = usePlace();
  const { data, error, reload } = useData<Comparison>(`compare?runs=${ids}`);
  useChanged(["run", "edits"], reload, 3000);
  const settings = useSettings();
  const tab = TABS.find(([key]) => key === params.get("tab"))?.[0] ?? "curves";
  const hidden = useMemo(() => new Set((params.get("hide") ?? "").split(",").filter(Boolean)), [params.get("hide")]);
  const [focus, setFocus] = useState<string | null>(null);
  useEffect(() => void (document.title = "compare · pipe"), []);
  useKeys((key) => {
    const tab = TABS[Number(key) - 1];
    if (tab) setParams({ tab: tab[0] });
  });
  const about = data?.about;
  const names = about?.map((run) => run.name).join();
  const runs: Shown[] = useMemo(() => (about ?? []).map((run, at) => ({ id: run.id, name: run.name, at, group: run.group })), [ids, names]);
  const tags = useMemo(() => (data?.metrics ?? []).map((metric) => metric.tag), [data]);
  if (!data || !about) return error ? <Failure problem={error} retry={reload} /> : null;
  const toggle = (id: string) => {
    const next = new Set(hidden);
    if (!next.delete(id)) next.add(id);
    setParams({ hide: [...next].join() || null });
  };
  const without = (id: string) => setParams({ runs: ids.split(",").filter((each) => each !== id).join(), hide: [...hidden].filter((each) => each !== id).join() || null });
  return (
    <>
      <div class="head">
        <div class="line">
          <h1>{about.length === 1 ? "1 run" : `${about.length} runs`}</h1>
        </div>
        <Legend runs={runs} hidden={hidden} focus={focus} onToggle={toggle} onFocus={setFocus}>
          {(run) => (
            <>
              <a {...linkTo(`/run/${run.id}`)} title="open this run">
                ↗
              </a>
              <button class="quiet" onClick={() => without(run.id)} aria-label={`without ${run.name}`}>
                ×
              </button>
            </>
          )}
        </Legend>
      </div>
      <Tabs tabs={TABS} now={tab} onTab={(tab) => setParams({ tab: tab === "curves" ? null : tab })} />
      {tab === "curves" && (
        <>
          <Controls settings={settings} grouped={about.some((run) => run.group !== null)} />
          <Grid tags={tags} runs={runs} settings={settings} hidden={hidden} focus={focus} onFocus={setFocus} />
        </>
      )}
      {tab === "options" && <Options data={data} runs={runs} />}
      {tab === "metrics" && <Metrics data={data} runs={runs} />}
      {tab === "plot" && <Parallel data={data} runs={runs} />}
      {tab === "images" && <Images key={runs.map((run) => run.id).join()} runs={runs} />}
      {tab === "console" && <Consoles runs={runs} />}
      {tab === "edits" && <AllEdits data={data} runs={runs} />}
    </>
  );
}

function Heads({ runs }: { runs: Shown[] }) {
  return (
    <thead>
      <tr>
        <th />
        {runs.map((run) => (
          <th key={run.id}>
            <a {...linkTo(`/run/${run.id}`)}>{run.name}</a>
          </th>
        ))}
      </tr>
    </thead>
  );
}

/** Values that are the same have the same shade, so that it is seen which runs go together. */
function shades(values: Json[]): number[] {
  const known: string[] = [];
  return values.map((value) => {
    const key = JSON.stringify(value);
    if (!known.includes(key)) known.push(key);
    return known.indexOf(key);
  });
}

function Options({ data, runs }: { data: Comparison; runs: Shown[] }) {
  const { params } = usePlace();
  const [search, setSearch] = useState("");
  const all = params.get("same") === "1";
  const more = useData<Comparison>(all ? `compare?runs=${params.get("runs") ?? ""}&same=true` : null);
  const fits = (key: string) => key.toLowerCase().includes(search.toLowerCase());
  const part = (name: string, rows: Comparison["options"]) =>
    rows.some((row) => fits(row.key)) && (
      <>
        <tr class="part">
          <th colSpan={runs.length + 1}>{name}</th>
        </tr>
        {rows.filter((row) => fits(row.key)).map((row) => {
          const own = shades(row.values);
          return (
            <tr key={row.key}>
              <th scope="row">{row.key}</th>
              {row.values.map((value, at) => (
                <td key={at} class={`shade${own[at]! % 6}`}>
                  {value === null ? <span class="soft">–</span> : text(value)}
                  {row.origins[at] && <small class="origin">{row.origins[at]}</small>}
                </td>
              ))}
            </tr>
          );
        })}
      </>
    );
  return (
    <>
      <div class="controls">
        <input type="search" placeholder="search options" aria-label="search options" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
        <label class="check">
          <input type="checkbox" checked={all} onChange={() => setParams({ same: all ? null : "1" })} /> also what is the same
        </label>
        <span class="soft">
          {data.options.length} options differ, and {data.facts.length} facts
        </span>
      </div>
      {data.options.length === 0 && data.facts.length === 0 && !all ? (
        <Empty>These runs have the same options, data and versions.</Empty>
      ) : (
        <div class="sheet">
          <table class="beside">
            <Heads runs={runs} />
            <tbody>
              {part("Options that differ", data.options)}
              {part("Data, versions, machine", data.facts)}
              {all &&
                more.data?.same &&
                part(
                  "The same in all",
                  more.data.same.map(({ key, value }) => ({ key, values: runs.map(() => value), origins: [] })),
                )}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

function Metrics({ data, runs }: { data: Comparison; runs: Shown[] }) {
  const { params } = usePlace();
  const which = (["last", "min", "max"] as const).find((each) => each === params.get("of")) ?? "last";
  return (
    <>
      <div class="controls">
        <div class="segments">
          {(["last", "min", "max"] as const).map((each) => (
            <button class={which === each ? "on" : ""} aria-pressed={which === each} onClick={() => setParams({ of: each })} key={each}>
              {each}
            </button>
          ))}
        </div>
        <span class="soft">▲ the largest, ▼ the smallest of a row</span>
      </div>
      <div class="sheet">
        <table class="beside">
          <Heads runs={runs} />
          <tbody>
            <tr>
              <th scope="row">status</th>
              {data.about.map((run) => (
                <td key={run.id}>
                  <StatusBadge status={run.status} />
                </td>
              ))}
            </tr>
            <tr>
              <th scope="row">created, took</th>
              {data.about.map((run) => (
                <td key={run.id}>
                  {date(run.created)} <small class="origin">{run.seconds === null ? "" : duration(run.seconds)}</small>
                </td>
              ))}
            </tr>
            {data.metrics.map((metric) => {
              const values = metric.values.map((value) => num(value?.[which]?.value));
              const known = values.filter((value) => Number.isFinite(value));
              const [low, high] = [Math.min(...known), Math.max(...known)];
              return (
                <tr key={metric.tag}>
                  <th scope="row">{metric.tag}</th>
                  {values.map((value, at) => (
                    <td class="num" key={at}>
                      {metric.values[at] ? short(value) : <span class="soft">–</span>}
                      {known.length > 1 && low < high && value === high && <i class="extreme">▲</i>}
                      {known.length > 1 && low < high && value === low && <i class="extreme">▼</i>}
                      {metric.values[at]?.[which] && <small class="origin">step {metric.values[at]?.[which]?.step}</small>}
                    </td>
                  ))}
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** The consoles beside each other, searched at once. */
function Consoles({ runs }: { runs: Shown[] }) {
  const [search, setSearch] = useState("");
  return (
    <>
      <div class="controls">
        <input type="search" placeholder="lines with" aria-label="search the consoles" value={search} onInput={(event) => setSearch(event.currentTarget.value)} />
      </div>
      <div class="columns consoles">
        {runs.map((run) => (
          <section key={run.id}>
            <h3>{run.name}</h3>
            <Console id={run.id} search={search} />
          </section>
        ))}
      </div>
    </>
  );
}

function AllEdits({ data, runs }: { data: Comparison; runs: Shown[] }) {
  if (data.edits.every((edits) => edits.length === 0)) return <Empty>None of these runs was edited while it was at work.</Empty>;
  return (
    <div class="columns">
      {runs.map((run) => (
        <section class="card" key={run.id}>
          <h3>{run.name}</h3>
          <EditsOf id={run.id} />
        </section>
      ))}
    </div>
  );
}

function EditsOf({ id }: { id: string }) {
  const { data, error, reload } = useData<RunPage>(`runs/${id}`);
  useChanged(["edits"], reload, 2000);
  if (!data) return error ? <Failure problem={error} retry={reload} /> : null;
  const edits = data.edits.filter((edit) => edit.outcome !== "started");
  return edits.length === 0 ? <p class="empty">not edited</p> : <Edits edits={edits} />;
}
