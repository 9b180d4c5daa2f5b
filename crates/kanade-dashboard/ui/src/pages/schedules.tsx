export function Schedules() { return <p>Not here yet</p>; }
