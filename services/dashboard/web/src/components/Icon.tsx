const PATHS = {
  pause: "M8 5v14M16 5v14",
  play: "M7 4.5v15l12-7.5z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2.5M12 19.5V22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M2 12h2.5M19.5 12H22M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  copy: "M9 9h11v11H9zM15 9V4H4v11h5",
  check: "M5 12.5l4.5 4.5L19 7",
  clock: "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM12 7.5V12l3 2",
  eye: "M2.5 12s3.5-6.5 9.5-6.5 9.5 6.5 9.5 6.5-3.5 6.5-9.5 6.5S2.5 12 2.5 12zM12 9.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6z",
  stop: "M6 6h12v12H6z",
  undo: "M9 14L4 9l5-5M4 9h10a6 6 0 0 1 0 12h-3",
  redo: "M15 14l5-5-5-5M20 9H10a6 6 0 0 0 0 12h3",
  brush: "M20 4l-9.5 9.5M9 13c-3 0-4 2-4 4 0 1.5-1 2.500-2 3 5 .8 9-.8 9-4z",
  eraser: "M8 20h12M5 13l8-8 6 6-8 8H8z",
  polygon: "M12 3l8 6-3 11H7L4 9z",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  list: "M8 6h12M8 12h12M8 18h12M4 6h.01M4 12h.01M4 18h.01",
  skip: "M5 5l9 7-9 7zM18 5v14",
  send: "M4 12h15M13 6l6 6-6 6",
  menu: "M4 6h16M4 12h16M4 18h16",
  close: "M6 6l12 12M18 6L6 18",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.500 20.500c1-4 4-5.500 7.500-5.500s6.500 1.500 7.500 5.500",
  unsure: "M9 9a3 3 0 1 1 4.500 2.600c-1 .6-1.500 1.200-1.500 2.400M12 18h.01",
  elsewhere: "M10 10m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0M14 14l6 6M20 15v5h-5",
  compare: "M4 5h7v14H4zM13 5h7v14h-7zM16.5 9v6M13.500 12h6",
  light: "M12 7a5 5 0 1 0 0 10zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.400 1.400M17.600 17.600L19 19M5 19l1.400-1.400M17.600 6.400L19 5",
  save: "M12 4v11M7 10.500l5 5 5-5M5 20h14",
  bell: "M6 16V11a6 6 0 0 1 12 0v5l1.500 2h-15zM10 20.500h4",
  broken: "M4 5h16v14H4zM4 16l5-5 3 3M14 12l2-2 4 4M3 3l18 18",
} as const;

export type IconName = keyof typeof PATHS;

/** A line drawing; always beside or inside something that has a name of its own. */
export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="2"
      strokeLinecap="round" strokeLinejoin="round" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
