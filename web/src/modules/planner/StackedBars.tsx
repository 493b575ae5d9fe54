import { Tooltip } from "antd";
import { number, percent } from "../../app/format";
import { useT } from "../../app/i18n";
import { background, ordered, purposes, scaleOf, type Bar, type Scale } from "./bars";
import { gib, gibText, partName } from "./words";

interface Props {
  bars: Bar[];
  usable: number;
  device: number;
  testId: string;
  label: string;
  /** Shared by several drawings; of its own where there is none. */
  scale?: Scale;
}

/** What lies on one device, by what it is for, with how much can be used and how much there is. */
export function StackedBars({ bars, usable, device, testId, label, scale = scaleOf(bars, device) }: Props) {
  const t = useT();
  const at = (bytes: number) => `${(100 * bytes) / scale.end}%`;
  return (
    <div className="plan-bars" role="group" aria-label={label} data-testid={testId}>
      {bars.map((bar) => (
        <div key={bar.key} className="plan-bar-line" data-testid={`${testId}-${bar.key}`} data-bytes={bar.bytes}>
          <span className="plan-bar-name" title={bar.label} data-marked={bar.isMarked}>{bar.label}</span>
          <Tooltip title={<Parts bar={bar} />} trigger={["hover", "focus"]} mouseEnterDelay={0.1}>
            <div className="plan-bar" tabIndex={0} role="img" aria-label={`${bar.label}: ${gibText(bar.bytes)}; ${ordered(bar.parts).map((part) => `${partName(part.name, t)} ${gib(part.bytes)}`).join(", ")}`}>
              {ordered(bar.parts).map((part) => <i key={part.name} style={{ width: at(part.bytes), background: background(part.name) }} />)}
              <b className="plan-usable" style={{ left: at(usable) }} aria-hidden />
              <b className="plan-device" style={{ left: at(device) }} aria-hidden />
            </div>
          </Tooltip>
          <span className="plan-bar-value" data-fits={bar.fits}>{gib(bar.bytes)}{!bar.fits && <span className="plan-over" aria-label={t("planner.fitsNot")}> !</span>}</span>
        </div>
      ))}
      <div className="plan-bar-line" aria-hidden>
        <span />
        <div className="plan-ticks">{scale.ticks.map((tick) => <span key={tick} style={{ left: at(tick * 1024 ** 3) }}>{number(tick)}</span>)}</div>
        <span className="plan-unit">GiB</span>
      </div>
    </div>
  );
}

function Parts({ bar }: { bar: Bar }) {
  const t = useT();
  return (
    <table className="plan-parts">
      <tbody>
        {ordered(bar.parts).map((part) => (
          <tr key={part.name}>
            <th scope="row"><i style={{ background: background(part.name) }} />{partName(part.name, t)}</th>
            <td>{gibText(part.bytes)}</td>
            <td>{percent(part.bytes / bar.bytes)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** What the colours and the two lines mean. */
export function BarsLegend({ bars, usable, device }: { bars: Bar[]; usable: number; device: number }) {
  const t = useT();
  return (
    <div className="plan-legend">
      {purposes(bars).map((name) => <span key={name}><i style={{ background: background(name) }} aria-hidden />{partName(name, t)}</span>)}
      <span><b className="plan-usable" aria-hidden />{t("planner.usable", { size: gibText(usable) })}</span>
      <span><b className="plan-device" aria-hidden />{t("planner.device", { size: gibText(device) })}</span>
    </div>
  );
}
