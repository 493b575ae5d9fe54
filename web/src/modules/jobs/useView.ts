/** What the run table shows: all of it lives in the address, so that a link or a saved view is the same table. */
import { useCallback, useMemo } from "react";
import { useSearchParams } from "react-router";

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

export function useView(): [View, (changes: Partial<View>) => void, string] {
  const [address, setAddress] = useSearchParams();
  const text = address.toString();
  const view = useMemo(() => readView(new URLSearchParams(text)), [text]);
  const change = useCallback(
    (changes: Partial<View>) =>
      setAddress(
        (before) => {
          for (const [name, value] of Object.entries(changes)) {
            const shown = Array.isArray(value) ? value.join(",") : value === null || value === false ? "" : value === true ? "1" : String(value);
            if (shown) before.set(NAMES[name as keyof View], shown);
            else before.delete(NAMES[name as keyof View]);
          }
          return before;
        },
        { replace: true },
      ),
    [setAddress],
  );
  return [view, change, text];
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
