import { Table } from "antd";
import type { SorterResult } from "antd/es/table/interface";
import { useMemo, type UIEvent } from "react";
import type { Job } from "../../api/client";
import { useLanguage, useT } from "../../app/i18n";
import { columnsIn } from "./columns";
import { PickProvider } from "./Picks";
import type { ChangeView, View } from "./useView";

interface Props {
  jobs: Job[];
  /** Row that the keyboard stands on. */
  current: number | null;
  view: View;
  change: ChangeView;
  /** Called when the end of what is loaded comes near. */
  showMore: () => void;
}

const ALL_ROWS_UP_TO = 60;
const HEIGHT_OF_THE_REST = 210;
const NEAR_THE_END = 1200;
const FIXED_WIDTH = 1060;
const COLUMN_WIDTH = 130;

/** Jobs, one row each; only rows in view are drawn when there are many. */
export function JobTable({ jobs, current, view, change, showMore }: Props) {
  const t = useT();
  const language = useLanguage();
  const baseline = jobs.find((job) => job.id === view.baseline);
  const columns = useMemo(
    () => columnsIn({ t, language, sort: view.sort, shown: view.columns, baseline }),
    [t, language, view.sort, view.columns, baseline],
  );
  const isLong = jobs.length > ALL_ROWS_UP_TO;
  const x = FIXED_WIDTH + COLUMN_WIDTH * view.columns.length;
  const nearTheEnd = (event: UIEvent<HTMLElement>) => {
    const box = event.currentTarget;
    if (box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_THE_END) showMore();
  };
  return (
    <PickProvider jobs={jobs} picked={view.picked} change={change}>
      <Table<Job>
        className="job-table"
        size="small"
        rowKey="id"
        dataSource={jobs}
        columns={columns}
        tableLayout="fixed"
        pagination={false}
        sticky={!isLong}
        virtual={isLong}
        scroll={isLong ? { x, y: window.innerHeight - HEIGHT_OF_THE_REST } : { x }}
        onScroll={nearTheEnd}
        showSorterTooltip={false}
        onChange={(_, __, sorter) => change({ sort: sortOf(sorter as SorterResult<Job>) })}
        rowClassName={(job) => [job.id === current ? "current-row" : "", job.id === view.baseline ? "baseline-row" : ""].join(" ")}
        onRow={(job) => ({ "data-testid": `job-row-${job.id}` }) as object}
      />
    </PickProvider>
  );
}

function sortOf(sorter: SorterResult<Job>): string {
  if (!sorter.order || sorter.columnKey === undefined) return "";
  return `${sorter.order === "descend" ? "-" : ""}${String(sorter.columnKey)}`;
}
