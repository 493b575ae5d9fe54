import { AutoComplete, Input, Select, Switch } from "antd";
import { useState } from "react";
import { parse, stringify } from "yaml";
import { useT } from "../app/i18n";
import { numberText, parsedNumber, type Field, type Path } from "./schema";
import { useForm } from "./schemaContext";

interface Props {
  field: Field;
  value: unknown;
  path: Path;
}

interface ControlProps {
  value: unknown;
  set: (value: unknown) => void;
  /** What holds when nothing is written. */
  fallback: string;
  label: string;
}

/** The control of a field without parts. An emptied one takes the key out. */
export function SchemaControl({ field, value, path }: Props) {
  const t = useT();
  const { change, suggest } = useForm();
  const label = path.join(".");
  const set = (next: unknown) => change([{ path, value: next === "" ? undefined : next }]);
  const normal = field.schema.default;
  const fallback = normal === null ? t("form.none") : normal === undefined ? "" : shown(normal);
  const common = { value, set, fallback, label };
  if (field.kind === "flag") return <Switch size="small" checked={(value ?? normal) === true} onChange={set} aria-label={label} data-testid={`field-${label}`} />;
  if (field.kind === "choice") {
    return (
      <Select
        size="small"
        allowClear={value !== undefined && normal !== undefined}
        placeholder={fallback}
        value={value as string | undefined}
        onChange={set}
        aria-label={label}
        data-testid={`field-${label}`}
        style={{ width: "100%" }}
        options={field.options.map((option) => ({ value: option, label: option }))}
      />
    );
  }
  if (field.kind === "words") return <Words {...common} field={field} />;
  if (field.kind === "number") return <NumberText {...common} />;
  if (field.kind === "free") return <FreeText {...common} />;
  if (field.schema.secret) return <Secret {...common} />;
  const known = [...suggest(label), ...(field.schema.examples ?? [])];
  return <Text {...common} known={[...new Set(known)]} />;
}

function Text({ value, set, fallback, label, known }: ControlProps & { known: string[] }) {
  const common = { size: "small" as const, placeholder: fallback, "aria-label": label, "data-testid": `field-${label}`, value: value === undefined || value === null ? "" : String(value) };
  if (known.length === 0) return <Input {...common} onChange={(event) => set(event.target.value)} />;
  return (
    <AutoComplete
      {...common}
      style={{ width: "100%" }}
      onChange={(text: string | undefined) => set(text ?? "")}
      showSearch={{ filterOption: (typed, option) => typed === value || (option?.value ?? "").includes(typed) }}
      options={known.map((name) => ({ value: name }))}
    />
  );
}

/** What nobody may read over a shoulder; the browser is not to offer or keep it. */
function Secret({ value, set, fallback, label }: ControlProps) {
  return <Input.Password size="small" visibilityToggle={false} autoComplete="new-password" placeholder={fallback} aria-label={label} data-testid={`field-${label}`} value={value === undefined ? "" : String(value)} onChange={(event) => set(event.target.value)} />;
}

/** A number as text, so that 1e-5 stays 1e-5. What is no number is handed on when the field is left, and complained about. */
function NumberText({ value, set, fallback, label }: ControlProps) {
  const [draft, setDraft] = useState<string | null>(null);
  const written = typeof value === "number" ? numberText(value) : value === undefined || value === null ? "" : shown(value);
  const type = (text: string) => {
    setDraft(text);
    const number = parsedNumber(text);
    if (number !== undefined || text.trim() === "") set(number);
  };
  const leave = () => {
    if (draft !== null && draft.trim() !== "" && parsedNumber(draft) === undefined) set(draft.trim());
    setDraft(null);
  };
  return <Input size="small" inputMode="decimal" placeholder={fallback} aria-label={label} data-testid={`field-${label}`} value={draft ?? written} onChange={(event) => type(event.target.value)} onBlur={leave} onPressEnter={leave} />;
}

function Words({ value, set, fallback, label, field }: ControlProps & { field: Field }) {
  if (field.kind !== "words") return null;
  const chosen = Array.isArray(value) ? value.map(String) : value === undefined || value === null ? [] : [shown(value)];
  const choose = (words: string[]) => {
    const newest = words.at(-1);
    if (newest === undefined) return set(undefined);
    if (field.alone.includes(newest)) return set(newest);
    set(words.filter((word) => !field.alone.includes(word)).map((word) => (field.hasNumbers && /^\d+$/.test(word) ? Number(word) : word)));
  };
  return (
    <Select size="small" mode="tags" placeholder={fallback} value={chosen} onChange={choose} aria-label={label} data-testid={`field-${label}`} style={{ width: "100%" }} options={field.options.map((option) => ({ value: option, label: option }))} />
  );
}

/** Anything else, as YAML; it is taken over when the field is left and can be read. */
function FreeText({ value, set, fallback, label }: ControlProps) {
  const [draft, setDraft] = useState<string | null>(null);
  const leave = () => {
    if (draft !== null) set(draft.trim() === "" ? undefined : readable(draft));
    setDraft(null);
  };
  return <Input.TextArea size="small" autoSize={{ minRows: 1, maxRows: 8 }} placeholder={fallback} aria-label={label} data-testid={`field-${label}`} className="mono" value={draft ?? (value === undefined ? "" : stringify(value).trim())} onChange={(event) => setDraft(event.target.value)} onBlur={leave} />;
}

function readable(text: string): unknown {
  try {
    return parse(text) as unknown;
  } catch {
    return text;
  }
}

function shown(value: unknown): string {
  if (typeof value === "number") return numberText(value);
  if (Array.isArray(value)) return value.map(shown).join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}
