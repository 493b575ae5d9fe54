/** Numbers, sizes and times as text. */
import type { Language } from "./i18n";

// Made once: a formatter takes longer to make than a screen of numbers to write.
const SHORT = new Intl.NumberFormat("en", { maximumFractionDigits: 8 });
const WHOLE = new Intl.NumberFormat("en");
const LOCALE: Record<Language, string> = { en: "en-GB", zh: "zh-CN" };
const AGO = both((language) => new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" }));
const CLOCK = both((language) => new Intl.DateTimeFormat(LOCALE[language], { hour: "2-digit", minute: "2-digit" }));
const MOMENT = both((language) => new Intl.DateTimeFormat(LOCALE[language], { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" }));

function both<T>(make: (language: Language) => T): Record<Language, T> {
  return { en: make("en"), zh: make("zh") };
}

const LARGE: [number, string][] = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
];
const TOO_LARGE = 1e15;

/** Four significant digits unless told otherwise, with an SI prefix from a million on; what is not finite stays its own name. */
export function number(value: number | string | null | undefined, digits = 4): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  if (value === 0) return "0";
  const size = Math.abs(value);
  const [unit, prefix] = LARGE.find(([least]) => size >= least) ?? [1, ""];
  if (prefix && size < TOO_LARGE) return `${Number((value / unit).toPrecision(digits))}${prefix}`;
  if (size >= TOO_LARGE || size < 1e-4) return value.toExponential(digits - 1).replace(/\.?0+e/, "e").replace("e+", "e");
  return SHORT.format(Number(value.toPrecision(digits)));
}

/** A count, in groups of three digits. */
export function whole(value: number): string {
  return WHOLE.format(value);
}

/** 0.1234 as "12.3 %". */
export function percent(fraction: number): string {
  return `${(100 * fraction).toFixed(1)} %`;
}

/** A difference of fractions in percentage points, with its sign. */
export function points(difference: number): string {
  const text = (100 * Math.abs(difference)).toFixed(1);
  if (Number(text) === 0) return "0.0";
  return `${difference < 0 ? "\u2212" : "+"}${text}`;
}

/** Bytes in SI units. */
export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? size : size.toPrecision(3)} ${units[unit] ?? ""}`;
}

const STEPS: [number, Intl.RelativeTimeFormatUnit][] = [
  [60, "second"],
  [60, "minute"],
  [24, "hour"],
  [30, "day"],
  [12, "month"],
  [Infinity, "year"],
];

/** "3 minutes ago" in the page's language. */
export function relative(moment: string, now: number, language: Language): string {
  let amount = (new Date(moment).getTime() - now) / 1000;
  for (const [size, unit] of STEPS) {
    if (Math.abs(amount) < size) return AGO[language].format(Math.round(amount), unit);
    amount /= size;
  }
  return moment;
}

export function absolute(moment: string, language: Language): string {
  return MOMENT[language].format(new Date(moment));
}

export function clock(milliseconds: number, language: Language): string {
  return CLOCK[language].format(milliseconds);
}

/** A length of time in its two largest units: "42 s", "3 min 20 s", "5 h 3 min". */
export function duration(seconds: number): string {
  const all = Math.round(seconds);
  if (all < 60) return `${all} s`;
  if (all < 3600) return `${Math.floor(all / 60)} min ${all % 60} s`;
  return `${Math.floor(all / 3600)} h ${Math.floor((all % 3600) / 60)} min`;
}

/** A job's spec as the job file that would make it again. */
export function specYaml(spec: unknown): string {
  return yaml(spec).trim();
}

/** Plain data as YAML that a person can read. Text is quoted where YAML would read something else. */
export function yaml(value: unknown, indent = 0): string {
  const pad = "  ".repeat(indent);
  if (Array.isArray(value)) {
    if (value.length === 0) return " []\n";
    return `\n${value.map((item) => `${pad}-${child(item, indent + 1, true)}`).join("")}`;
  }
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value);
    if (entries.length === 0) return " {}\n";
    return `\n${entries.map(([key, item]) => `${pad}${key}:${child(item, indent + 1, false)}`).join("")}`;
  }
  return ` ${scalar(value)}\n`;
}

function child(item: unknown, indent: number, inList: boolean): string {
  const text = yaml(item, indent);
  if (!inList || !text.startsWith("\n") || Array.isArray(item)) return text;
  return ` ${text.slice(1).trimStart()}`;
}

function scalar(value: unknown): string {
  if (typeof value !== "string") return String(value);
  return /^[A-Za-z_./][\w ./@-]*$/.test(value) && !/^(true|false|null|yes|no)$/i.test(value) ? value : JSON.stringify(value);
}
