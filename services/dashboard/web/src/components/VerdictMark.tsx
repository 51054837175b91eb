import type { Verdict } from "../api/types";

/** The verdict's shape: a ring with a tick, a diamond with a question mark, a filled octagon with a cross. */
export function VerdictMark({ verdict, size = 20 }: { verdict: Verdict; size?: number }) {
  const common = { width: size, height: size, viewBox: "0 0 24 24", "aria-hidden": true, focusable: false } as const;
  if (verdict === "pass") {
    return (
      <svg {...common} fill="none" stroke="var(--pass)" strokeWidth="2.2" strokeLinecap="round" strokeLinejoin="round">
        <circle cx="12" cy="12" r="9.2" />
        <path d="M7.8 12.4l3 3 5.6-6" />
      </svg>
    );
  }
  if (verdict === "review") {
    return (
      <svg {...common}>
        <path d="M12 .8 23.2 12 12 23.2.8 12z" fill="var(--review-fill)" />
        <path d="M9.4 9.6a2.7 2.7 0 1 1 4 2.4c-.9.5-1.4 1-1.4 2" fill="none" stroke="#241900" strokeWidth="2.1"
          strokeLinecap="round" />
        <circle cx="12" cy="17" r="1.35" fill="#241900" />
      </svg>
    );
  }
  return (
    <svg {...common}>
      <path d="M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4z" fill="var(--fail-fill)" />
      <path d="M8 8l8 8M16 8l-8 8" stroke="#fff" strokeWidth="2.6" strokeLinecap="round" />
    </svg>
  );
}
