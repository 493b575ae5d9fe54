/** Checkpoints over time: what is drawn of their scores, and what is said of them. Pure. */
import type { EChartsCoreOption } from "echarts/core";
import type { Schemas } from "../../api/client";
import { percent, whole } from "../../app/format";
import { paletteColour } from "../../ui/colours";

/** The client hands tuples out as lists. */
type Score = Omit<Schemas["CheckpointScoreView"], "interval"> & { interval: number[] };
export type Evaluation = Omit<Schemas["CheckpointEvaluationView"], "score"> & { score: Score | null };
export type Checkpoint = Omit<Schemas["TimelineCheckpoint"], "evaluations"> & { evaluations: Evaluation[] };
export type Timeline = Omit<Schemas["Timeline"], "checkpoints"> & { checkpoints: Checkpoint[] };

export interface Words {
  best: string;
  overFitting: string;
  latest: string;
  left: string;
  gone: string;
  band: string;
}

/** A checkpoint with its score in the series that is shown. */
export interface Point {
  row: Checkpoint;
  score: Score;
}

/** How a checkpoint stands in a series; nothing where it was never meant to be evaluated. */
export function standing(row: Checkpoint, series: string | undefined): Evaluation | undefined {
  return row.evaluations.find((one) => one.series === series);
}

export function points(rows: Checkpoint[], series: string | undefined): Point[] {
  const found = rows.flatMap((row) => {
    const score = standing(row, series)?.score;
    return score ? [{ row, score }] : [];
  });
  return found.sort((a, b) => a.row.step - b.row.step);
}

/** Whether something will change without anybody doing anything. */
export function isPending(timeline: Timeline): boolean {
  return timeline.checkpoints.some((row) => row.evaluations.some((one) => one.state === "waiting" || one.state === "running"));
}

export function marks({ row, score }: Point, words: Words): string[] {
  const found: [boolean, string][] = [
    [score.is_best, words.best],
    [score.is_over_fitting, words.overFitting],
    [row.is_latest, words.latest],
    [!row.is_on_path, words.left],
    [!row.is_there, words.gone],
  ];
  return found.flatMap(([holds, word]) => (holds ? [word] : []));
}

export function pointText(point: Point, words: Words): string {
  const { row, score } = point;
  const [low = 0, high = 1] = score.interval;
  const lines = [
    `${whole(row.step)}: ${percent(score.accuracy)} (${whole(score.num_correct)}/${whole(score.num_samples)})`,
    `${words.band} ${percent(low)} – ${percent(high)}`,
    marks(point, words).join(", "),
  ];
  return lines.filter(Boolean).join("\n");
}

const LINE = paletteColour(0);
const BEST = paletteColour(2);
const WORSE = paletteColour(5);
const PALE = 0.4;

/** Scores by step: a line with its interval along the way that led to the present, and marks at what matters. */
export function timelineOption(found: Point[], words: Words, isDark: boolean): EChartsCoreOption {
  const path = found.filter((point) => point.row.is_on_path);
  const low = ({ score }: Point) => score.interval[0] ?? 0;
  const high = ({ score }: Point) => score.interval[1] ?? 1;
  const band = { type: "line", stack: "interval", symbol: "none", silent: true, lineStyle: { opacity: 0 }, z: 1 };
  const paper = isDark ? "#1b2023" : "#ffffff";
  return {
    backgroundColor: "transparent",
    animation: false,
    grid: { left: 56, right: 30, top: 26, bottom: 26 },
    tooltip: {
      trigger: "item",
      renderMode: "richText",
      confine: true,
      textStyle: { fontSize: 12 },
      formatter: (hit: { dataIndex: number }) => {
        const point = found[hit.dataIndex];
        return point ? pointText(point, words) : "";
      },
    },
    xAxis: { type: "value", scale: true, minInterval: 1, axisLabel: { fontSize: 11, hideOverlap: true, formatter: (value: number) => whole(value) }, splitLine: { show: false } },
    yAxis: { type: "value", min: 0, max: ({ max }: { max: number }) => ceiling(max), axisLabel: { fontSize: 11, formatter: (value: number) => `${Math.round(100 * value)} %` }, splitLine: { lineStyle: { opacity: 0.35 } } },
    series: [
      { ...band, data: path.map((point) => [point.row.step, low(point)]) },
      { ...band, data: path.map((point) => [point.row.step, high(point) - low(point)]), areaStyle: { color: LINE, opacity: 0.16 } },
      { type: "line", symbol: "none", silent: true, lineStyle: { color: LINE, width: 2 }, data: path.map(({ row, score }) => [row.step, score.accuracy]), z: 2 },
      {
        type: "scatter",
        z: 3,
        data: found.map((point) => {
          const colour = point.score.is_best ? BEST : point.score.is_over_fitting ? WORSE : LINE;
          const isMarked = point.score.is_best || point.score.is_over_fitting || point.row.is_latest;
          const label = marks(point, words).filter((word) => word !== words.gone && word !== words.left).join(", ");
          return {
            value: [point.row.step, point.score.accuracy],
            symbol: point.score.is_best ? "diamond" : point.score.is_over_fitting ? "triangle" : "circle",
            symbolSize: point.score.is_best ? 15 : isMarked ? 11 : 8,
            itemStyle: { color: point.row.is_there ? colour : paper, borderColor: colour, borderWidth: 2, opacity: point.row.is_on_path ? 1 : PALE },
            label: { show: isMarked, formatter: label, position: "top", fontSize: 11, color: isDark ? "#d5dadc" : "#2b3135" },
          };
        }),
        labelLayout: { hideOverlap: true },
      },
    ],
  };
}

const TOPS = [0.1, 0.2, 0.4, 0.6, 0.8];

/** The top of the axis: the next round one above the highest interval, at most 100 %. */
export function ceiling(max: number): number {
  return TOPS.find((top) => max < top) ?? 1;
}
