export function NewJob() { return <p>Not here yet</p>; }
export function EditJob() { return <p>Not here yet</p>; }
