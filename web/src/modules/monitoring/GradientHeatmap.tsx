import { useMemo } from "react";
import { number, whole } from "../../app/format";
import { useT } from "../../app/i18n";
import { EmptyState } from "../../ui/EmptyState";
import { Heatmap } from "../../ui/Heatmap";
import type { Place } from "../../ui/heatmapOptions";
import type { Stretch } from "../../ui/stretch";
import type { GradientView } from "./gradientView";
import { isSigned, scaleOf, shortName, type Cells, type Column, type Window } from "./heat";

const AXIS_HEIGHT = 34;
const LEAST_HEIGHT = 190;
const MOST_HEIGHT = 620;
const LAYER_HEIGHT = 15;
const TENSOR_HEIGHT = 8;
const GROUP_HEIGHT = 30;

interface Props {
  window: Window;
  cells: Cells;
  /** Values that the colours are made for as well, so that two pictures are read with one scale. */
  like?: Cells | undefined;
  view: GradientView;
  title: string;
  isAlone?: boolean;
  /** The cells compare two runs. */
  compared?: "ratio" | "difference";
  pick: (place: Place) => void;
  zoom: (stretch: Stretch | null) => void;
  testId: string;
}

/** One heatmap of one run, or of one run against another. */
export function GradientHeatmap({ window, cells, like, view, title, isAlone = false, compared, pick, zoom, testId }: Props) {
  const t = useT();
  const scale = useMemo(
    () => scaleOf(like ? [...cells, ...like] : cells, { name: view.scale, clipped: view.clip / 100, isDiverging: compared === "difference" || isSigned(window.metric), isRatio: compared === "ratio" }),
    [cells, like, view.scale, view.clip, window.metric, compared],
  );
  const rows = useMemo(() => window.rows.map(({ first, last, num }) => (num > 1 ? `${shortName(first)} … ${shortName(last)}` : shortName(first))), [window.rows]);
  const columns = useMemo(() => window.columns.map((column) => whole(column.last_step)), [window.columns]);
  const steps = useMemo(() => window.columns.map(({ first_step, last_step }) => ({ from: first_step, to: last_step })), [window.columns]);
  const metric = t(`gradient.${window.metric}`);
  const picked = useMemo(() => pickedIn(window, view.cell), [window, view.cell]);
  const tell = ({ row, column }: Place) => {
    const [there, at, value] = [window.rows[row], window.columns[column], cells[row]?.[column]];
    const name = there && there.num > 1 ? `${there.first} … ${there.last}` : (there?.first ?? "");
    return [name, at ? stepText(at, t) : "", `${metric}${compared ? ` (${t(`gradients.mode.${compared}`)})` : ""}: ${value === null || value === undefined ? t("gradients.unknown") : number(value)}`];
  };
  const heading = isAlone ? null : <h3 title={title}>{title}</h3>;
  if (!scale || window.first_step === null || window.last_step === null) {
    return <div>{heading}<EmptyState text={window.metric === "activation_rms" ? t("gradients.noActivations") : t("gradients.nothingHere", { metric })} /></div>;
  }
  return (
    <div>
      {heading}
      <Heatmap
        rows={rows}
        columns={columns}
        cells={cells}
        scale={scale}
        picked={picked}
        height={heightOf(rows.length, window.by)}
        testId={testId}
        label={t("gradients.heatmap", { metric, run: title, rows: rows.length, columns: columns.length })}
        tell={tell}
        pick={pick}
        steps={steps}
        whole={{ from: window.first_step, to: window.last_step }}
        stretch={view.stretch}
        zoom={zoom}
      />
    </div>
  );
}

function heightOf(numRows: number, by: Window["by"]): number {
  const each = { layer: LAYER_HEIGHT, tensor: TENSOR_HEIGHT, group: GROUP_HEIGHT }[by];
  return Math.min(MOST_HEIGHT, Math.max(LEAST_HEIGHT, numRows * each)) + AXIS_HEIGHT;
}

function stepText({ first_step, last_step }: Column, t: ReturnType<typeof useT>): string {
  return first_step === last_step ? t("gradients.step", { step: whole(last_step) }) : t("gradients.stepsFromTo", { from: whole(first_step), to: whole(last_step) });
}

function pickedIn({ rows, columns }: Window, cell: GradientView["cell"]): Place | null {
  if (!cell) return null;
  const row = rows.findIndex(({ first }) => first === cell.name);
  const column = columns.findIndex(({ first_step, last_step }) => first_step <= cell.step && cell.step <= last_step);
  return row >= 0 && column >= 0 ? { row, column } : null;
}
