import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { App as AntApp, ConfigProvider, theme as antTheme } from "antd";
import enUS from "antd/locale/en_US";
import zhCN from "antd/locale/zh_CN";
import { useEffect, useMemo } from "react";
import { BrowserRouter } from "react-router";
import { ApiError } from "../api/client";
import { LanguageContext, translator } from "./i18n";
import { useIsDark, useLanguagePreference, useThemePreference } from "./preferences";
import { Shell } from "./Shell";
import { ThemeContext } from "./theme";

/** Who asked the system for less motion gets none. */
const isCalm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

const queries = new QueryClient({
  defaultOptions: {
    queries: {
      retry: (count, error) => count < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
      refetchOnWindowFocus: true,
      staleTime: 1000,
    },
  },
});

export function App() {
  const [language, setLanguage] = useLanguagePreference();
  const [theme, setTheme] = useThemePreference();
  const isDark = useIsDark(theme);
  // Chosen so that each pair of text and ground has WCAG AA's 4.5:1; antd's own grey for placeholders and hints has not.
  const accent = isDark ? "#45d0db" : "#0b6e77";
  const faint = isDark ? "rgba(255, 255, 255, 0.62)" : "rgba(0, 0, 0, 0.6)";
  const tint = isDark ? "rgba(42, 166, 176, 0.16)" : "rgba(11, 110, 119, 0.09)";
  const translation = useMemo(() => ({ language, t: translator(language) }), [language]);
  useEffect(() => {
    document.documentElement.lang = language;
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    document.documentElement.style.colorScheme = isDark ? "dark" : "light";
  }, [language, isDark]);
  return (
    <LanguageContext value={translation}>
      <ThemeContext value={isDark}>
        <ConfigProvider
          locale={language === "zh" ? zhCN : enUS}
          theme={{
            algorithm: isDark ? antTheme.darkAlgorithm : antTheme.defaultAlgorithm,
            token: { colorPrimary: accent, colorLink: accent, colorInfo: accent, colorTextPlaceholder: faint, colorTextDescription: faint, colorTextTertiary: faint, borderRadius: 6, fontSize: 13, motion: !isCalm },
            components: {
              Table: { cellPaddingBlockSM: 5, rowSelectedBg: tint, rowSelectedHoverBg: tint },
              Button: { primaryShadow: "none", defaultShadow: "none", ...(isDark ? { primaryColor: "#04191b" } : {}) },
              Menu: { itemBg: "transparent", activeBarBorderWidth: 0, itemHeight: 34, itemSelectedBg: tint },
            },
          }}
        >
          <AntApp>
            <QueryClientProvider client={queries}>
              <BrowserRouter>
                <Shell language={language} setLanguage={setLanguage} theme={theme} setTheme={setTheme} />
              </BrowserRouter>
            </QueryClientProvider>
          </AntApp>
        </ConfigProvider>
      </ThemeContext>
    </LanguageContext>
  );
}
