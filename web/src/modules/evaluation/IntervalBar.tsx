import type { Score } from "../../api/client";
import { percent } from "../../app/format";
import { runColour } from "../../ui/colours";

/** Accuracy with its interval, to scale from 0 to 100 %. */
export function IntervalBar({ score }: { score: Score }) {
  const [low = 0, high = 1] = score.interval;
  const colour = runColour(score.job_id);
  return (
    <div className="interval">
      <div className="scale" aria-hidden>
        <span className="range" style={{ left: `${100 * low}%`, width: `${100 * (high - low)}%`, background: colour }} />
        <span className="point" style={{ left: `${100 * score.accuracy}%`, background: colour }} />
      </div>
      <b>{percent(score.accuracy)}</b>
      <span className="quiet">{percent(low)} – {percent(high)}</span>
    </div>
  );
}
