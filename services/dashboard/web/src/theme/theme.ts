import { useEffect, useState } from "react";
import { readChoice, storeChoice } from "./choice";

export type Theme = "dark" | "light";

/** The theme shown, and a way to change it. Without a choice it follows the system. */
export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState<Theme>(() => (document.documentElement.dataset["theme"] === "dark" ? "dark" : "light"));
  useEffect(() => {
    const system = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => {
      if (readChoice("theme") === null) setTheme(system.matches ? "dark" : "light");
    };
    system.addEventListener("change", follow);
    return () => system.removeEventListener("change", follow);
  }, []);
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
  }, [theme]);
  const choose = (next: Theme) => {
    storeChoice("theme", next);
    setTheme(next);
  };
  return [theme, choose];
}
