/**
 * Boxes to pick runs with. antd's own selection goes over all loaded rows at every change of one, and its checkbox costs
 * more to draw than the rest of a row: not with 10,000.
 */
import { createContext, useContext, useMemo, useRef, type ReactNode } from "react";
import type { Job } from "../../api/client";
import { useT } from "../../app/i18n";
import { picking, type ChangeView } from "./useView";

interface Picking {
  picked: ReadonlySet<number>;
  jobs: Job[];
  /** Pick a run, or take it back; with `isRange` also those between it and the one before. */
  pick: (id: number, isPicked: boolean, isRange: boolean) => void;
  pickAll: (isPicked: boolean) => void;
}

const Picks = createContext<Picking>({ picked: new Set(), jobs: [], pick: () => undefined, pickAll: () => undefined });

/** What the boxes below it know; apart from the table's columns, so that a pick draws the boxes again and nothing else. */
export function PickProvider({ jobs, picked, change, children }: { jobs: Job[]; picked: number[]; change: ChangeView; children: ReactNode }) {
  const last = useRef<number | null>(null);
  const value = useMemo<Picking>(
    () => ({
      picked: new Set(picked),
      jobs,
      pick: (id, isPicked, isRange) => {
        const [from, to] = [last.current ?? id, id].map((one) => jobs.findIndex((job) => job.id === one));
        const ids = isRange && from !== undefined && to !== undefined && from >= 0 ? jobs.slice(Math.min(from, to), Math.max(from, to) + 1).map((job) => job.id) : [id];
        last.current = id;
        change(picking(ids, isPicked));
      },
      pickAll: (isPicked) => change(picking(jobs.map((job) => job.id), isPicked)),
    }),
    [jobs, picked, change],
  );
  return <Picks value={value}>{children}</Picks>;
}

export function PickBox({ job }: { job: Job }) {
  const t = useT();
  const { picked, pick } = useContext(Picks);
  return (
    <input
      type="checkbox"
      className="pick"
      checked={picked.has(job.id)}
      aria-label={t("runs.pick", { name: job.name })}
      onChange={(event) => pick(job.id, event.target.checked, (event.nativeEvent as MouseEvent).shiftKey)}
    />
  );
}

export function PickAllBox() {
  const t = useT();
  const { picked, jobs, pickAll } = useContext(Picks);
  const isSome = picked.size > 0;
  const isAll = isSome && jobs.length > 0 && jobs.every((job) => picked.has(job.id));
  const show = (box: HTMLInputElement | null) => {
    if (box) box.indeterminate = isSome && !isAll;
  };
  return <input type="checkbox" className="pick" ref={show} checked={isAll} aria-label={t("runs.pickAll")} onChange={(event) => pickAll(event.target.checked)} />;
}
