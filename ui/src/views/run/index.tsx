// One run.
import { useEffect, useMemo, useState } from "preact/hooks";
import { LiveContext, useChanged, useData, useLive } from "../../api";
import { Controls, type EditMark, Grid, type Shown, useSettings } from "../../curves";
import { ago, count, date, duration, num, short } from "../../format";
import { Empty, Failure, JobState, Name, Notes, Offline, StatusBadge, Tabs } from "../../parts";
import type { Edit, Json, RunPage } from "../../types";
import { go, linkTo } from "../../url";
import { useKeys } from "../help";
import { Console } from "./console";
import { Files } from "./files";
import { Graph } from "./graph";
import { Images } from "./images";
import { Others, useMedia } from "./media";
import { titleOf } from "./edits";
import { Pipeline } from "./pipeline";
import { Steer } from "./steer";

type Tab = "curves" | "images" | "distributions" | "pr" | "text" | "console" | "job" | "machine" | "pipeline" | "graph" | "files" | "about";

const OTHERS: Partial<Record<Tab, string[]>> = {
  distributions: ["histogram"],
  pr: ["confusion", "pr_curve"],
  text: ["text", "hparams", "artifact"],
};

export function RunView({ id, tab }: { id: string; tab: string }) {
  const { live, connected } = useLive(`runs=${id}`);
  return (
    <LiveContext.Provider value={live}>
      <main class="run-view">
        <Offline connected={connected} />
        <Loaded id={id} wanted={tab} />
      </main>
    </LiveContext.Provider>
  );
}

function Loaded({ id, wanted }: { id: string; wanted: string }) {
  const { data, error, reload } = useData<RunPage>(`runs/${id}`);
  const { media } = useMedia(id);
  useChanged(["run", "edits", "curves", "machine", "job"], reload, 2000);
  useEffect(() => void (document.title = `${data?.run.name ?? "run"} · pipe`), [data?.run.name]);
  const tabs = useMemo(() => {
    const many = (kinds: string[]) => media?.tags.filter((tag) => kinds.includes(tag.kind)).length ?? 0;
    const all: [Tab, string, number?][] = [
      ["curves", "Curves"],
      ["images", "Images", many(["image"])],
      ["distributions", "Distributions", many(["histogram"])],
      ["pr", "Scores", many(["confusion", "pr_curve"])],
      ["text", "Text", many(["text", "hparams", "artifact"])],
      ["console", "Console"],
      ["job", "Job", data?.log ? undefined : 0],
      ["machine", "Machine"],
      ["pipeline", "Pipeline"],
      ["graph", "Graph"],
      ["files", "Files"],
      ["about", "Facts"],
    ];
    return all.filter(([, , many]) => many === undefined || many > 0);
  }, [media, data?.log]);
  const tab = tabs.find(([key]) => key === wanted)?.[0] ?? (OTHERS[wanted as Tab] || wanted === "images" ? (wanted as Tab) : "curves");
  const open = (tab: Tab) => go(`/run/${id}${tab === "curves" ? "" : `/${tab}`}`);
  useKeys((key) => {
    const tab = tabs[Number(key) - 1];
    if (tab) open(tab[0]);
  });
  const name = data?.run.name ?? "";
  const runs: Shown[] = useMemo(() => [{ id, name, at: 0 }], [id, name]);
  if (!data) {
    return error ? (
      <>
        <Failure problem={error} retry={reload} />
        <a {...linkTo("/")}>All runs</a>
      </>
    ) : null;
  }
  const kinds = OTHERS[tab];
  return (
    <>
      <Head page={data} onChange={reload} />
      <Tabs tabs={tabs} now={tab} onTab={open} />
      {tab === "curves" && <Curves page={data} runs={runs} />}
      {tab === "images" && <Images runs={runs} />}
      {kinds && <Others run={runs[0]!} kinds={kinds} key={tab} />}
      {tab === "console" && <Console id={id} />}
      {tab === "job" && data.log && <Console id={id} log={data.log} />}
      {tab === "machine" && <Machine page={data} runs={runs} />}
      {tab === "pipeline" && <Pipeline page={data} />}
      {tab === "graph" && <Graph page={data} />}
      {tab === "files" && <Files page={data} />}
      {tab === "about" && <Facts page={data} />}
    </>
  );
}

function Head({ page, onChange }: { page: RunPage; onChange: () => void }) {
  const { run } = page;
  const [, again] = useState(0);
  useEffect(() => {
    if (run.status !== "running") return;
    const timer = setInterval(() => again((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, [run.status]);
  const took = run.seconds ?? (run.status === "running" ? Date.now() / 1000 - run.created : null);
  const fork = run.forked_from;
  return (
    <div class="head">
      <div class="line">
        <Name id={page.id} name={run.name} group={run.group} onChange={onChange} />
        <StatusBadge status={run.status} />
        <JobState job={run.job} status={run.status} />
        <span class="facts">
          <span>
            pipeline <b>{run.pipeline}</b>
          </span>
          <span title={date(run.created)}>
            {run.status === "submitted" ? "submitted" : "begun"} <b>{ago(run.created)}</b>
          </span>
          {took !== null && (
            <span>
              {run.status === "running" ? "for" : "took"} <b>{duration(took)}</b>
            </span>
          )}
          <span>
            steps <b>{count(run.steps)}</b>
          </span>
          {run.job && (
            <span>
              job <b>{run.job.job}</b> of {run.job.engine}
            </span>
          )}
          {run.epochs > 0 && (
            <span>
              epoch <b>{run.epochs}</b>
            </span>
          )}
          {run.device && (
            <span title={run.device}>
              on <b>{run.device.split(",")[0]}</b>
            </span>
          )}
          {fork && (
            <span>
              fork of <b>{fork.run?.split("/").slice(-2).join("/")}</b> at step <b>{fork.step}</b>
            </span>
          )}
        </span>
      </div>
      <Notes id={page.id} run={run} onChange={onChange} />
      <Steer page={page} />
      {run.error && <pre class="error">{run.error}</pre>}
      {run.problem && <pre class="error">{run.problem}</pre>}
    </div>
  );
}

const KINDS: Record<string, EditMark["kind"]> = { applied: "edit", refused: "refused", invalid: "refused", stop: "life", checkpoint: "life" };

/** Edits as marks on curves: what changed, or why it was refused. Where a life began that was not the first is one, too. */
export function marksOf(edits: Edit[]): EditMark[] {
  const marks: EditMark[] = [];
  edits.forEach((edit, at) => {
    if (edit.outcome === "started") {
      if (at > 0) marks.push({ step: edit.step, time: edit.time, label: `went on from step ${edit.step}`, kind: "life" });
      return;
    }
    const kind = KINDS[edit.outcome];
    if (!kind) return;
    const changes = (edit.changes ?? []).map((change) => `${change.name}: ${change.change}`);
    const head = [titleOf(edit), edit.why, edit.reason].filter(Boolean);
    marks.push({ step: edit.step, time: edit.time, label: [...head, ...changes.slice(0, 8)].join("\n"), kind });
  });
  return marks;
}

function Curves({ page, runs }: { page: RunPage; runs: Shown[] }) {
  const settings = useSettings();
  const tags = useMemo(() => Object.keys(page.run.metrics), [Object.keys(page.run.metrics).join("\n")]);
  const edits = useMemo(() => marksOf(page.edits), [page.edits.length, page.run.generation]);
  return (
    <>
      <Controls settings={settings} />
      <Grid tags={tags} runs={runs} settings={settings} edits={edits} />
    </>
  );
}

function Machine({ page, runs }: { page: RunPage; runs: Shown[] }) {
  const settings = useSettings("relative");
  if (page.machine.length === 0) return <Empty>Nothing yet: how fast the run gets on and how busy the machine is are measured every five seconds, and how fast it was also at its end.</Empty>;
  return (
    <>
      <Controls settings={settings} axes={["relative", "wall"]} logs={false} />
      <Grid tags={page.machine} runs={runs} settings={{ ...settings, log: false }} machine />
    </>
  );
}

/** `run.json`, and what the run came to. */
function Facts({ page }: { page: RunPage }) {
  const { run, info } = page;
  return (
    <>
      <h2>What it came to</h2>
      <div class="sheet">
        <table class="beside">
          <thead>
            <tr>
              <th />
              <th class="num">last</th>
              <th class="num">smallest</th>
              <th class="num">largest</th>
              <th class="num">values</th>
              <th>by</th>
            </tr>
          </thead>
          <tbody>
            {Object.entries(run.metrics).map(([tag, metric]) => (
              <tr key={tag}>
                <th scope="row">{tag}</th>
                {[metric.last, metric.min, metric.max].map((at, index) => (
                  <td class="num" key={index}>
                    {at ? short(num(at.value)) : "–"} {at && <small class="origin">step {at.step}</small>}
                  </td>
                ))}
                <td class="num">
                  {count(metric.count)} {metric.non_finite > 0 && <small class="error">{metric.non_finite} not finite</small>}
                </td>
                <td>{metric.node}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <h2>The run</h2>
      <div class="sheet">
        <table class="beside">
          <tbody>
            <tr>
              <th scope="row">folder</th>
              <td>{run.folder}</td>
            </tr>
            {leaves("", info).map(([key, value]) => (
              <tr key={key}>
                <th scope="row">{key}</th>
                <td class="wrap">{value}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

const TIMES = ["created", "started", "ended"];

function leaves(key: string, value: Json): [string, string][] {
  if (value === null) return [];
  if (Array.isArray(value) && value.every((item) => typeof item !== "object")) return [[key, value.join(" ")]];
  if (typeof value === "object") {
    return Object.entries(value).flatMap(([name, inner]) => leaves(key ? `${key}.${name}` : name, inner));
  }
  if (typeof value === "number" && TIMES.includes(key)) return [[key, date(value)]];
  return [[key, String(value)]];
}
