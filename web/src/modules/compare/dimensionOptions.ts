import type { Translate } from "../../app/i18n";
import type { Dimension } from "./logic";

/** Dimensions to choose from: keys of the job file that differ, those that do not, newest values of metrics. */
export function dimensionOptions(found: Dimension[], t: Translate) {
  const group = (label: string, own: Dimension[]) => ({ label, title: label, options: own.map((one) => ({ value: one.id, label: one.label })) });
  return [
    group(t("compare.differingKeys"), found.filter((one) => !one.isMetric && one.isDifferent)),
    group(t("compare.otherKeys"), found.filter((one) => !one.isMetric && !one.isDifferent)),
    group(t("compare.lastValues"), found.filter((one) => one.isMetric)),
  ].filter((one) => one.options.length > 0);
}
