import { DownloadOutlined, FileImageOutlined, FullscreenOutlined } from "@ant-design/icons";
import { Button } from "antd";
import { useT } from "../app/i18n";

interface Props {
  metric: string;
  /** Nothing while the chart fills the screen already. */
  open?: () => void;
  savePng: () => void;
  /** Where the table of all points is. */
  csv?: string;
}

/** What can be done with a chart. */
export function ChartTools({ metric, open, savePng, csv }: Props) {
  const t = useT();
  const named = (key: "charts.full" | "charts.png" | "charts.csv") => ({ title: t(key, { metric }), "aria-label": t(key, { metric }) });
  return (
    <span className="chart-tools">
      {open && <Button type="text" size="small" icon={<FullscreenOutlined />} onClick={open} {...named("charts.full")} />}
      <Button type="text" size="small" icon={<FileImageOutlined />} onClick={savePng} {...named("charts.png")} />
      {csv && <Button type="text" size="small" icon={<DownloadOutlined />} href={csv} download {...named("charts.csv")} />}
    </span>
  );
}
