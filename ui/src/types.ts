// What the server answers; docs/runs.md has what the keys of runs mean.

export type Num = number | "NaN" | "Infinity" | "-Infinity";
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Status = "running" | "lost" | "done" | "interrupted" | "failed" | "submitted";

/** The job of a run that was submitted. */
export interface Job {
  engine: "slurm" | "kubernetes" | "local";
  job: string;
  /** As the engine says it; null where it was not asked, does not know or has not answered. */
  state: string | null;
}

export interface Session {
  reads: boolean;
  writes: boolean;
  version: string;
  roots: string[];
  /** Of a file: when it was made, and what is not in it. */
  made?: number;
  left_out?: string[];
}

/** What every answer about a run begins with. */
interface Facts {
  id: string;
  name: string;
  pipeline: string;
  status: Status;
  created: number;
  seconds: number | null;
  steps: number;
  epochs: number;
  tags: string[];
  group: string | null;
  note: string;
}

export interface Row extends Facts {
  error: string | null;
  job: Job | null;
  folder: string;
  forked_from: { run?: string; step?: number } | null;
  values: Json[];
}

export interface Table {
  revision: number;
  total: number;
  columns: string[];
  runs: Row[];
}

export interface Keys {
  fields: string[];
  options: string[];
  curves: string[];
  tags: string[];
}

export interface At {
  value: Num;
  step: number;
  epoch: number;
}

export interface Metric {
  node: string;
  count: number;
  non_finite: number;
  last: At;
  min: At | null;
  max: At | null;
}

export interface Run {
  folder: string;
  name: string;
  pipeline: string;
  status: Status;
  created: number;
  seconds: number | null;
  steps: number;
  epochs: number;
  device: string | null;
  seed: number | null;
  tags: string[];
  group: string | null;
  note: string;
  error: string | null;
  forked_from: { run?: string; step?: number; checkpoint?: string } | null;
  generation: number;
  options: Record<string, Json>;
  metrics: Record<string, Metric>;
  problem: string | null;
  job: Job | null;
}

export interface Edit {
  edit: number;
  outcome: string;
  step: number;
  epoch: number;
  time: number;
  version?: string;
  reason?: string;
  author?: string;
  why?: string;
  changes?: { name: string; place?: string; change: string; meaning?: string }[];
  rebuilt?: string[];
}

/** A mistake of a pipeline, as `pipe check --format json` says it. */
export interface Finding {
  severity: "error" | "warning";
  code: string;
  message: string;
  file: string | null;
  line: number | null;
  column: number | null;
  help: string | null;
}

export interface PlannedChange {
  name: string;
  place: string;
  change: string;
  meaning: "now" | "rebuilt" | "next_epoch" | "refused";
}

/** What an edit would mean. */
export interface Preview {
  version: string | null;
  diagnostics: Finding[];
  valid: boolean;
  changes: PlannedChange[];
  rebuilt: string[];
  reason: string | null;
}

/** What a run was asked, and how far that has come. */
export interface Asked {
  name: string;
  ask: "stop" | "checkpoint" | "edit" | null;
  author: string;
  why: string;
  stage: "asked" | "read" | "done" | "refused";
  said?: string;
  time?: number;
  report?: { version?: string; outcome?: string };
  diagnostics?: Finding[];
}

export interface Checkpoint {
  name: string;
  step: number | null;
  bytes: number;
  time: number | null;
}

export interface RunPage {
  id: string;
  run: Run;
  info: { [key: string]: Json };
  origins: Record<string, string>;
  edits: Edit[];
  checkpoints: { all: Checkpoint[]; best: Json };
  steps_per_epoch: number | null;
  machine: string[];
  /** By node, and of engines by engine/phase, in percent of the training thread's time. */
  shares: { until: number; parts: Record<string, { mean: number; last: number }> } | null;
  pipeline: string | null;
  /** The file of what the run's job says. */
  log: string | null;
}

export interface Points {
  step: number[];
  time: number[];
  value: number[];
}

export interface Curve {
  run: string;
  error?: string;
  node: string;
  count: number;
  non_finite: number;
  steps: [number, number];
  times: [number, number];
  start: number;
  steps_per_epoch: number | null;
  last: { step: number; epoch: number; time: number; value: Num };
  points: Points;
  bad: [number, number][];
  smooth: Points | null;
}

export interface Series {
  tag: string;
  curves: Curve[];
}

export interface About extends Facts {
  steps_per_epoch: number | null;
}

export interface Difference {
  key: string;
  values: Json[];
  origins: (string | null)[];
}

export interface Comparison {
  runs: string[];
  options: Difference[];
  facts: Difference[];
  metrics: { tag: string; values: (Metric | null)[] }[];
  edits: { step: number; changes: string[] }[][];
  about: About[];
  same?: { key: string; value: Json }[];
}

/** The study that runs are trials of. */
export interface Study {
  name: string | null;
  /** So many are complete. */
  trials: number;
  /** The parameters with their shares of what mattered, the largest first. */
  importances: [string, number][];
  /** Why there are none. */
  why: string | null;
}

export interface MediaTag {
  kind: string;
  tag: string;
  node: string;
  items: [number, number, number, number][];
}

export interface MediaList {
  generation: number;
  tags: MediaTag[];
}
