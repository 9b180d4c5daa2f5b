export function Jobs() { return <p>Not here yet</p>; }
