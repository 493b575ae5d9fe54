/** What the run table shows: all of it lives in the address, so that a link or a saved view is the same table. */
import { useCallback, useMemo } from "react";
import { useView as useAddress } from "../../app/useView";

const list = (text: string | null) => (text ? text.split(",").filter(Boolean) : []);

export interface View {
  query: string;
  states: string[];
  sort: string;
  /** Settings and metrics shown beside the fixed columns. */
  columns: string[];
  group: string;
  metric: string;
  baseline: number | null;
  picked: number[];
  isArchive: boolean;
}

const NAMES: Record<keyof View, string> = {
  query: "q", states: "state", sort: "sort", columns: "columns", group: "group", metric: "metric", baseline: "baseline", picked: "pick", isArchive: "archive",
};

export type ChangeView = (changes: Partial<View> | ((newest: View) => Partial<View>)) => void;

export function useView(): [View, ChangeView, string] {
  const [address, setAddress] = useAddress();
  const text = address.toString();
  const view = useMemo(() => readView(new URLSearchParams(text)), [text]);
  const change = useCallback<ChangeView>(
    (changes) =>
      setAddress((newest) => {
        const wanted = typeof changes === "function" ? changes(readView(newest)) : changes;
        return Object.fromEntries(Object.entries(wanted).map(([name, value]) => [NAMES[name as keyof View], written(value)]));
      }),
    [setAddress],
  );
  return [view, change, text];
}

/** Pick these too, or no longer: applied to the newest picks, of which a page that is behind may not know. */
export function picking(ids: number[], isPicked: boolean): (newest: View) => Partial<View> {
  return ({ picked }) => {
    const others = picked.filter((id) => !ids.includes(id));
    if (!isPicked) return { picked: others };
    return { picked: [...picked, ...ids.filter((id) => !picked.includes(id))] };
  };
}

function written(value: View[keyof View]): string {
  if (Array.isArray(value)) return value.join(",");
  if (typeof value === "boolean") return value ? "1" : "";
  return value === null ? "" : String(value);
}

export function readView(address: URLSearchParams): View {
  const baseline = Number(address.get(NAMES.baseline));
  return {
    query: address.get(NAMES.query) ?? "",
    states: list(address.get(NAMES.states)),
    sort: address.get(NAMES.sort) ?? "",
    columns: list(address.get(NAMES.columns)),
    group: address.get(NAMES.group) ?? "",
    metric: address.get(NAMES.metric) ?? "",
    baseline: Number.isInteger(baseline) && baseline > 0 ? baseline : null,
    picked: list(address.get(NAMES.picked)).map(Number).filter((id) => Number.isInteger(id) && id > 0),
    isArchive: address.get(NAMES.isArchive) === "1",
  };
}
