import { useQuery } from "@tanstack/react-query";
import { Card, Skeleton } from "antd";
import { api, take } from "../../api/client";
import { bytes, number } from "../../app/format";
import { useT } from "../../app/i18n";
import { ErrorCard } from "../../ui/ErrorCard";
import { Meter } from "../../ui/Meter";
import type { Devices } from "./attention";

const POLL_MS = 5000;

export function useDevices() {
  return useQuery({ queryKey: ["devices"], queryFn: () => take(api.GET("/api/devices")), refetchInterval: POLL_MS });
}

/** How busy the machine is. */
export function DevicesCard() {
  const t = useT();
  const devices = useDevices();
  return (
    <Card size="small" title={devices.data ? t("home.devicesOf", { host: devices.data.host }) : t("home.devices")} data-testid="devices">
      {devices.error && !devices.data ? <ErrorCard error={devices.error} /> : devices.data ? <Meters devices={devices.data} /> : <Skeleton active />}
    </Card>
  );
}

function Meters({ devices }: { devices: Devices }) {
  const t = useT();
  const used = devices.disk_total - devices.disk_free;
  return (
    <div className="meters">
      <Meter name={t("home.cpu")} share={devices.cpu_percent / 100} text={t("home.cores", { percent: number(devices.cpu_percent, 2), n: devices.cpu_cores })} isFullBad={false} />
      <Meter name={t("home.memory")} share={devices.memory_used / devices.memory_total} text={`${bytes(devices.memory_used)} / ${bytes(devices.memory_total)}`} />
      <Meter name={t("home.disk")} share={used / devices.disk_total} text={t("home.free", { size: bytes(devices.disk_free) })} />
      {devices.gpus.map((gpu) => (
        <div key={gpu.index} className="meters">
          <b>{t("home.gpu", { n: gpu.index })} <span className="quiet">{gpu.name}</span></b>
          {gpu.utilization_percent !== null && <Meter name={t("home.busy")} share={gpu.utilization_percent / 100} text={`${number(gpu.utilization_percent, 2)} %`} isFullBad={false} />}
          <Meter name={t("home.memory")} share={gpu.memory_used / gpu.memory_total} text={`${bytes(gpu.memory_used)} / ${bytes(gpu.memory_total)}`} />
          <span className="quiet">
            {[gpu.temperature_celsius !== null && `${number(gpu.temperature_celsius, 2)} °C`, gpu.power_watts !== null && `${number(gpu.power_watts, 3)} W`].filter(Boolean).join(" · ")}
          </span>
        </div>
      ))}
      {devices.gpus.length === 0 && <span className="quiet">{t("home.noGpu")}</span>}
    </div>
  );
}
