import { useEffect, useState } from "react";
import { absolute, relative } from "../app/format";
import { useLanguage } from "../app/i18n";

const REFRESH_MS = 15_000;

/** "3 minutes ago", the moment itself on hover. */
export function RelativeTime({ moment }: { moment: string | null }) {
  const language = useLanguage();
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(Date.now()), REFRESH_MS);
    return () => window.clearInterval(timer);
  }, []);
  if (!moment) return <span>–</span>;
  return (
    <time dateTime={moment} title={absolute(moment, language)}>{relative(moment, now, language)}</time>
  );
}
