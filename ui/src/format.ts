// Numbers, times and values for people.
import type { Json, Num } from "./types";

/** The number that the server wrote, which JSON may not know. */
export function num(value: Num | null | undefined): number {
  if (typeof value === "number") return value;
  if (value === "Infinity") return Infinity;
  if (value === "-Infinity") return -Infinity;
  return NaN;
}

/** As the program's own tables have it: four decimals or about four digits that count. */
export function short(value: number): string {
  const size = Math.abs(value);
  if (value === 0 || !Number.isFinite(value)) return Number.isFinite(value) ? "0" : String(value).replace("Infinity", "∞");
  if (Number.isInteger(value) && size < 1e6) return String(value);
  if (size < 1e-4 || size >= 1e6) return value.toExponential(2).replace("e+", "e");
  const decimals = size >= 0.1 && size < 100 ? 4 : Math.max(0, 3 - Math.floor(Math.log10(size)));
  const text = value.toFixed(decimals);
  return size < 0.1 ? text.replace(/0+$/, "") : text;
}

/** Of an axis: as many digits as its step needs. */
export function tick(value: number, step: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6) return trim((value / 1e6).toFixed(digits(step / 1e6))) + "M";
  if (size >= 1e4) return trim((value / 1e3).toFixed(digits(step / 1e3))) + "k";
  if (size < 1e-4) return value.toExponential(0);
  return value.toFixed(digits(step));
}

/** So many decimals that the step is written in full: 0.25 needs two. */
function digits(step: number): number {
  for (let many = 0; many < 8; many++) {
    const whole = step * 10 ** many;
    if (whole > 0.5 && Math.abs(whole - Math.round(whole)) < 1e-6 * whole) return many;
  }
  return step > 0 ? Math.min(8, Math.max(0, Math.ceil(-Math.log10(step)))) : 3;
}

function trim(text: string): string {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

export function count(value: number): string {
  return value.toLocaleString("en").replaceAll(",", "\u2009");
}

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

export function duration(seconds: number): string {
  const sign = seconds < 0 ? "-" : "";
  const whole = Math.round(Math.abs(seconds));
  if (whole < 10) return `${sign}${trim(Math.abs(seconds).toFixed(1))} s`;
  if (whole < 60) return `${sign}${whole} s`;
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (h >= 48) return `${sign}${Math.floor(h / 24)} d ${h % 24} h`;
  return sign + (h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`);
}

const two = (n: number) => String(n).padStart(2, "0");

export function date(seconds: number): string {
  const d = new Date(seconds * 1000);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${two(d.getHours())}:${two(d.getMinutes())}`;
}

export function clock(seconds: number): string {
  const d = new Date(seconds * 1000);
  return `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
}

export function ago(seconds: number): string {
  const since = Date.now() / 1000 - seconds;
  if (since < 60) return "now";
  if (since < 3600) return `${Math.floor(since / 60)} min ago`;
  if (since < 86400) return `${Math.floor(since / 3600)} h ago`;
  if (since < 30 * 86400) return `${Math.floor(since / 86400)} d ago`;
  return date(seconds).slice(0, 10);
}

/** A value of an option or a field as one reads it: a text without quotes. */
export function text(value: Json | undefined): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value.join(" ");
  return JSON.stringify(value);
}

/** A value in a cell: measured numbers short, options to the last digit. */
export function cell(value: Json | undefined, isCurve: boolean): string {
  if (typeof value === "number" && isCurve) return short(value);
  return text(value);
}
