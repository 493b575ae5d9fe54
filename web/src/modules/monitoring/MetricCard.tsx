import { Card } from "antd";
import { useState } from "react";
import { useLanguage } from "../../app/i18n";
import { explained } from "../../app/i18n/metrics";
import { useInView } from "../../ui/useInView";
import { MetricChart, type MetricProps } from "./MetricChart";
import { areSame } from "./series";

/** A metric among others. Out of view it keeps what it shows, however much its lines grow. */
export function MetricCard(props: MetricProps) {
  const language = useLanguage();
  const [view, isInView] = useInView();
  const [shown, setShown] = useState<MetricProps | null>(null);
  if (isInView && (!shown || !isSameShown(shown, props))) setShown(props);
  const numPoints = props.lines.reduce((sum, line) => sum + line.values.length, 0);
  return (
    <Card ref={view} size="small" className="chart-card" styles={{ body: { padding: "8px 10px 4px" } }}>
      {shown ? (
        <MetricChart {...shown} />
      ) : (
        <>
          <div className="chart-title"><b title={explained(props.metric, language)}>{props.metric}</b></div>
          <div data-testid={`chart-${props.metric}`} data-points={numPoints} style={{ height: props.height }} />
        </>
      )}
    </Card>
  );
}

function isSameShown(before: MetricProps, after: MetricProps): boolean {
  const { lines: linesBefore, ...othersBefore } = before;
  const { lines: linesAfter, ...othersAfter } = after;
  const names = Object.keys(othersAfter) as (keyof typeof othersAfter)[];
  return areSame(linesBefore, linesAfter) && names.every((name) => othersBefore[name] === othersAfter[name]);
}
