// All runs: columns, filter, order, groups, choice; all of it in the address.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { source, useData, useLive, useSession } from "../api";
import { ago, cell, date, duration, num, short, text } from "../format";
import { editRun, Empty, Failure, JobState, Offline, StatusBadge, Tag } from "../parts";
import type { Json, Num, Row, Table } from "../types";
import { go, linkTo, setParams, usePlace } from "../url";
import { Chooser } from "./chooser";
import { useKeys } from "./help";

const ROW = 34;

export function TableView() {
  const { params } = usePlace();
  const query = useMemo(() => {
    const query = new URLSearchParams();
    for (const name of ["where", "sort"]) {
      const value = params.get(name);
      if (value) query.set(name, value);
    }
    if (params.get("all")) query.set("all", "true");
    const columns = params.getAll("c");
    if (columns.length > 0) query.set("columns", JSON.stringify(columns.filter((column) => column !== "-")));
    return query.toString();
  }, [params]);
  const { data, error, reload } = useData<Table>(`runs?${query}`);
  const { live, connected } = useLive("table=true");
  const again = useRef(reload);
  again.current = reload;
  useEffect(() => {
    if (live) live.onTable = () => again.current();
  }, [live]);
  useEffect(() => void (document.title = "runs · pipe"), []);
  const [choosing, setChoosing] = useState(false);
  const filtered = params.get("where");
  return (
    <main class="table-view">
      <Offline connected={connected} />
      <div class="bar">
        {source.served && (
          <>
            <Filter wrong={error && error.status === 400 ? error.message : null} />
            <label class="check" title="also runs with the tag `archived`">
              <input type="checkbox" checked={!!params.get("all")} onChange={(event) => setParams({ all: event.currentTarget.checked ? "1" : null })} /> archived
            </label>
          </>
        )}
        <button onClick={() => setChoosing(!choosing)} aria-expanded={choosing}>
          Columns
        </button>
        {data && <Csv table={data} />}
        <span class="soft count">{data ? (data.runs.length === data.total ? `${data.total} runs` : `${data.runs.length} of ${data.total} runs`) : ""}</span>
      </div>
      {choosing && data && <Chooser columns={data.columns} onClose={() => setChoosing(false)} />}
      {error && error.status !== 400 && <Failure problem={error} retry={reload} />}
      {data && data.total === 0 && (
        <Empty>
          <h2>No runs yet</h2>
          <p>
            <code>pipe run pipelines/mnist.toml --profile demo</code> makes the first one; it appears here as soon as it begins.
          </p>
        </Empty>
      )}
      {data && data.total > 0 && data.runs.length === 0 && !error && (
        <Empty>
          <h2>No run is meant by this</h2>
          <p>{filtered ? <button onClick={() => setParams({ where: null })}>all runs</button> : "all of them are archived"}</p>
        </Empty>
      )}
      {data && data.runs.length > 0 && <Rows table={data} onChange={reload} />}
    </main>
  );
}

function Filter({ wrong }: { wrong: string | null }) {
  const { params } = usePlace();
  const given = params.get("where") ?? "";
  const [now, setNow] = useState(given);
  useEffect(() => setNow(given), [given]);
  return (
    <form
      class="filter"
      onSubmit={(event) => {
        event.preventDefault();
        setParams({ where: now.trim() || null }, false);
      }}
    >
      <input
        type="search"
        class={wrong ? "wrong" : ""}
        value={now}
        placeholder="metric.accuracy > 0.9 and optimizer.sgd.lr < 0.1 and tag:baseline"
        aria-label="which runs"
        title="fields, options, curves (last, min(…), max(…)), tag:x; and, or, not, = != < <= > >= ~"
        spellcheck={false}
        onInput={(event) => {
          setNow(event.currentTarget.value);
          if (event.currentTarget.value === "") setParams({ where: null });
        }}
      />
      {wrong && <pre class="filter-wrong">{wrong}</pre>}
    </form>
  );
}

const FIXED: [string, string][] = [
  ["name", "name"],
  ["status", "status"],
  ["pipeline", "pipeline"],
  ["created", "created"],
  ["seconds", "took"],
  ["steps", "steps"],
];

function Rows({ table, onChange }: { table: Table; onChange: () => void }) {
  const { params } = usePlace();
  const chosen = useMemo(() => new Set((params.get("sel") ?? "").split(",").filter(Boolean)), [params]);
  const [at, setAt] = useState(-1);
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ top: 0, height: 800 });
  const sort = params.get("sort") ?? "";
  const grouping = params.get("group") === "1";
  const choose = (ids: Iterable<string>) => setParams({ sel: [...ids].join(",") || null });
  const flip = (id: string) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    choose(next);
  };
  const last = useRef<number | null>(null);
  const click = (index: number, shift: boolean) => {
    const row = table.runs[index]!;
    if (shift && last.current !== null) {
      const [from, to] = [Math.min(last.current, index), Math.max(last.current, index)];
      choose(new Set([...chosen, ...table.runs.slice(from, to + 1).map((run) => run.id)]));
    } else flip(row.id);
    last.current = index;
  };
  const compare = () => chosen.size > 0 && go(`/compare?runs=${[...chosen].join()}`);
  useKeys((key, event) => {
    const row = table.runs[at];
    if (key === "j" || key === "ArrowDown") setAt(Math.min(table.runs.length - 1, at + 1));
    else if (key === "k" || key === "ArrowUp") setAt(Math.max(0, at - 1));
    else if (key === "x" && row) flip(row.id);
    else if (key === "Enter" && row && document.activeElement === document.body) go(`/run/${row.id}`);
    else if (key === "c") compare();
    else if (key === "Escape") choose([]);
    else return;
    event.preventDefault();
  });
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const see = () => setView({ top: element.scrollTop, height: element.clientHeight });
    see();
    element.addEventListener("scroll", see, { passive: true });
    const resize = new ResizeObserver(see);
    resize.observe(element);
    return () => {
      element.removeEventListener("scroll", see);
      resize.disconnect();
    };
  }, []);
  useEffect(() => {
    const element = box.current;
    if (!element || at < 0) return;
    const top = at * ROW;
    if (top < element.scrollTop) element.scrollTop = top;
    if (top + 2 * ROW > element.scrollTop + element.clientHeight) element.scrollTop = top + 2 * ROW - element.clientHeight;
  }, [at]);
  const curves = useMemo(() => table.columns.map(isCurve), [table]);
  const groups = grouping ? grouped(table) : null;
  const [from, to] = [Math.max(0, Math.floor(view.top / ROW) - 10), Math.ceil((view.top + view.height) / ROW) + 10];
  const head = (key: string, label: string, numeric: boolean) => {
    const now = sort === key ? "ascending" : sort === `-${key}` ? "descending" : "none";
    const next = now === "descending" ? key : now === "ascending" ? null : `-${key}`;
    return (
      <th class={numeric ? "num" : ""} aria-sort={now} key={key} title={key}>
        <button onClick={() => setParams({ sort: next })}>
          <span>{label}</span>
          {now !== "none" && <i>{now === "ascending" ? "▲" : "▼"}</i>}
        </button>
      </th>
    );
  };
  const numeric = table.columns.map((_, column) => table.runs.some((run) => typeof run.values[column] === "number"));
  const any = (what: (run: Row) => boolean) => table.runs.some(what);
  return (
    <>
      <div class="choice" data-any={chosen.size > 0}>
        {chosen.size > 0 ? <Chosen table={table} chosen={chosen} onNone={() => choose([])} onCompare={compare} onChange={onChange} /> : null}
        {any((run) => run.group !== null) && (
          <label class="check">
            <input type="checkbox" checked={grouping} onChange={() => setParams({ group: grouping ? null : "1" })} /> groups as one, mean ± 95 %
          </label>
        )}
      </div>
      <div class="scroll" ref={box}>
        <table class="runs">
          <thead>
            <tr>
              <th class="pick">
                <input
                  type="checkbox"
                  aria-label="all"
                  checked={chosen.size > 0 && table.runs.every((run) => chosen.has(run.id))}
                  onChange={(event) => choose(event.currentTarget.checked ? table.runs.slice(0, 100).map((run) => run.id) : [])}
                />
              </th>
              {FIXED.map(([key, label]) => head(key, label, key === "seconds" || key === "steps"))}
              {table.columns.map((column, index) => head(column, heading(column), numeric[index]!))}
              {any((run) => run.tags.length > 0) && <th title="tags">tags</th>}
            </tr>
          </thead>
          <tbody>
            {groups ? (
              groups.map((group) => <GroupRow group={group} columns={table.columns.length} key={group.name} onChoose={() => choose(group.runs.map((run) => run.id))} />)
            ) : (
              <>
                {from > 0 && <tr style={{ height: `${from * ROW}px` }} />}
                {table.runs.slice(from, to).map((run, index) => {
                  const place = from + index;
                  return (
                    <tr key={run.id} class={`${chosen.has(run.id) ? "chosen" : ""} ${at === place ? "at" : ""}`} data-run={run.id}>
                      <td class="pick">
                        <input type="checkbox" aria-label={`choose ${run.name}`} checked={chosen.has(run.id)} onClick={(event) => click(place, event.shiftKey)} />
                      </td>
                      <td class="name">
                        <a {...linkTo(`/run/${run.id}`)} title={run.folder}>
                          {run.name}
                        </a>
                        {run.note && (
                          <i class="has-note" title={run.note}>
                            ✎
                          </i>
                        )}
                        {run.forked_from && (
                          <i class="has-note" title={`fork of ${run.forked_from.run ?? ""} at step ${run.forked_from.step ?? ""}`}>
                            fork
                          </i>
                        )}
                      </td>
                      <td title={run.error ?? ""}>
                        <StatusBadge status={run.status} /> <JobState job={run.job} status={run.status} />
                      </td>
                      <td>{run.pipeline}</td>
                      <td title={date(run.created)}>{ago(run.created)}</td>
                      <td class="num">{run.seconds === null ? (run.status === "running" ? duration(Date.now() / 1000 - run.created) : "") : duration(run.seconds)}</td>
                      <td class="num">{run.steps}</td>
                      {run.values.map((value, column) => (
                        <td class={numeric[column] ? "num" : ""} key={column} title={text(value)}>
                          {cell(value, curves[column]!)}
                        </td>
                      ))}
                      {any((run) => run.tags.length > 0) && (
                        <td>
                          {run.tags.map((tag) => (
                            <Tag tag={tag} key={tag} />
                          ))}
                        </td>
                      )}
                    </tr>
                  );
                })}
                {to < table.runs.length && <tr style={{ height: `${(table.runs.length - to) * ROW}px` }} />}
              </>
            )}
          </tbody>
        </table>
      </div>
    </>
  );
}

/** Whether a column is what a curve came to. */
const isCurve = (column: string) => /^(min|max|last)\(/.test(column) || column.startsWith("metric.") || column.includes("/");

/** The end of a key tells most: all of it is in the title. */
function heading(column: string): string {
  const call = /^(min|max|last)\((.*)\)$/.exec(column);
  if (call) return `${call[1]} ${heading(call[2]!)}`;
  if (column.includes("/")) return column.split("/").slice(-2).join("/");
  const parts = column.split(".");
  return parts.length > 2 ? parts.slice(-2).join(".") : column;
}

function Chosen({ table, chosen, onNone, onCompare, onChange }: { table: Table; chosen: Set<string>; onNone: () => void; onCompare: () => void; onChange: () => void }) {
  const session = useSession();
  const [tag, setTag] = useState("");
  const [error, setError] = useState<string | null>(null);
  const all = async (change: Record<string, unknown>) => {
    const wrong = (await Promise.all([...chosen].map((id) => editRun(id, change)))).find((wrong) => wrong !== null);
    setError(wrong ?? null);
    onChange();
  };
  const archived = table.runs.filter((run) => chosen.has(run.id)).every((run) => run.tags.includes("archived"));
  return (
    <>
      <b>{chosen.size} chosen</b>
      <button class="main" onClick={onCompare}>
        Compare
      </button>
      {session.writes && (
        <>
          <form
            class="inline"
            onSubmit={(event) => {
              event.preventDefault();
              if (tag.trim()) void all({ tag: [tag.trim()] }).then(() => setTag(""));
            }}
          >
            <input class="small" size={10} value={tag} placeholder="+ tag" aria-label="tag them" onInput={(event) => setTag(event.currentTarget.value)} />
          </form>
          <button onClick={() => void all(archived ? { untag: ["archived"] } : { tag: ["archived"] })}>{archived ? "Take out of the archive" : "Archive"}</button>
        </>
      )}
      <button class="quiet" onClick={onNone}>
        none
      </button>
      {error && <span class="error">{error}</span>}
    </>
  );
}

interface Group {
  name: string;
  runs: Row[];
  values: string[];
}

/** Two-sided 95 % of Student's t, by degrees of freedom. */
const T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093, 2.086];

function grouped(table: Table): Group[] {
  const groups = new Map<string, Row[]>();
  for (const run of table.runs) {
    const name = run.group ?? run.name;
    groups.set(name, [...(groups.get(name) ?? []), run]);
  }
  const value = (values: Json[], curve: boolean): string => {
    const numbers = values.map((value) => num(value as Num)).filter((value) => !Number.isNaN(value));
    const same = values.every((value) => JSON.stringify(value) === JSON.stringify(values[0]));
    if (same) return cell(values[0], curve);
    if (numbers.length < 2 || numbers.length < values.length) return "several";
    if (!curve) return `${short(Math.min(...numbers))} … ${short(Math.max(...numbers))}`;
    const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
    const spread = Math.sqrt(numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (numbers.length - 1));
    return `${short(mean)} ± ${short(((T[numbers.length - 2] ?? 1.96) * spread) / Math.sqrt(numbers.length))}`;
  };
  return [...groups].map(([name, runs]) => ({
    name,
    runs,
    values: table.columns.map((column, at) =>
      value(
        runs.map((run) => run.values[at] ?? null),
        isCurve(column),
      ),
    ),
  }));
}

function GroupRow({ group, columns, onChoose }: { group: Group; columns: number; onChoose: () => void }) {
  const { runs } = group;
  const one = runs[0]!;
  return (
    <tr>
      <td class="pick" />
      <td class="name">
        {runs.length === 1 ? (
          <a {...linkTo(`/run/${one.id}`)}>{one.name}</a>
        ) : (
          <>
            <button class="link" onClick={onChoose} title="choose its runs">
              {group.name}
            </button>{" "}
            <small>{runs.length} runs</small>
          </>
        )}
      </td>
      <td>{new Set(runs.map((run) => run.status)).size === 1 ? <StatusBadge status={one.status} /> : "several"}</td>
      <td>{one.pipeline}</td>
      <td>{ago(Math.max(...runs.map((run) => run.created)))}</td>
      <td class="num">{runs.every((run) => run.seconds !== null) ? duration(runs.reduce((sum, run) => sum + (run.seconds ?? 0), 0)) : ""}</td>
      <td class="num">{Math.max(...runs.map((run) => run.steps))}</td>
      {Array.from({ length: columns }, (_, at) => (
        <td class="num" key={at}>
          {group.values[at]}
        </td>
      ))}
      <td />
    </tr>
  );
}

function Csv({ table }: { table: Table }) {
  const save = () => {
    const quoted = (value: string) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const head = ["name", "status", "pipeline", "created", "seconds", "steps", "tags", ...table.columns];
    const lines = table.runs.map((run) =>
      [run.name, run.status, run.pipeline, String(run.created), text(run.seconds), String(run.steps), run.tags.join(" "), ...run.values.map((value) => text(value))].map(quoted).join(),
    );
    const url = URL.createObjectURL(new Blob([[head.map(quoted).join(), ...lines].join("\n") + "\n"], { type: "text/csv" }));
    const link = Object.assign(document.createElement("a"), { href: url, download: "runs.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url));
  };
  return (
    <button onClick={save} title="the rows and columns that are shown">
      CSV
    </button>
  );
}

