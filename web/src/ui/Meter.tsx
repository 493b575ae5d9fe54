const NEARLY_FULL = 0.95;

interface Props {
  name: string;
  /** Of the whole, from 0 to 1. */
  share: number;
  text: string;
  /** Amber near the end: true of memory and disk, not of a processor that works. */
  isFullBad?: boolean;
  /** Off where the name stands elsewhere, such as above a column. */
  isNameShown?: boolean;
}

/** How much of something is used, as a bar. */
export function Meter({ name, share, text, isFullBad = true, isNameShown = true }: Props) {
  const bounded = Math.min(1, Math.max(0, share));
  return (
    <div>
      <div className="meter-text">{isNameShown && <span>{name}</span>}<span>{text}</span></div>
      <div className="meter" role="meter" aria-label={name} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(100 * bounded)} aria-valuetext={text} data-full={isFullBad && share > NEARLY_FULL}>
        <span style={{ width: `${100 * bounded}%` }} />
      </div>
    </div>
  );
}
