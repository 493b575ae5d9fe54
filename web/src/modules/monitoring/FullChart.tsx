import { LeftOutlined, RightOutlined } from "@ant-design/icons";
import { Button, Modal } from "antd";
import { useEffect, useState, type ReactNode } from "react";
import { useT } from "../../app/i18n";
import { useKeys } from "../../app/keys";
import { neighbour } from "./view";

const AROUND = 190;
const LEAST_HEIGHT = 240;

interface Props {
  /** Whose chart it is. */
  title: string;
  metric: string;
  /** All metrics in the order of the page. */
  metrics: readonly string[];
  /** Shows another metric, or goes back to the page. */
  show: (metric: string | null) => void;
  /** The chart in a height that fills the screen. */
  children: (height: number) => ReactNode;
}

/** A metric on the whole screen. Escape closes it, the arrow keys go to its neighbours. */
export function FullChart({ title, metric, metrics, show, children }: Props) {
  const t = useT();
  const height = useWindowHeight() - AROUND;
  const go = (by: 1 | -1) => show(neighbour(metrics, metric, by));
  useKeys({ ArrowLeft: () => go(-1), ArrowRight: () => go(1) });
  const place = metrics.indexOf(metric) + 1;
  return (
    <Modal
      open
      centered
      footer={null}
      width="calc(100vw - 32px)"
      onCancel={() => show(null)}
      title={
        <span className="cell-line">
          <Button size="small" icon={<LeftOutlined />} aria-label={t("charts.previous")} title={t("charts.previous")} onClick={() => go(-1)} />
          <Button size="small" icon={<RightOutlined />} aria-label={t("charts.next")} title={t("charts.next")} onClick={() => go(1)} />
          <span>{title}</span>
          <span className="quiet">{place} / {metrics.length}</span>
        </span>
      }
    >
      <div className="chart-card chart-full">{children(Math.max(LEAST_HEIGHT, height))}</div>
    </Modal>
  );
}

function useWindowHeight(): number {
  const [height, setHeight] = useState(window.innerHeight);
  useEffect(() => {
    const measure = () => setHeight(window.innerHeight);
    window.addEventListener("resize", measure);
    return () => window.removeEventListener("resize", measure);
  }, []);
  return height;
}
