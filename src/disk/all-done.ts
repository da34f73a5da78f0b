/** Waits for all, and throws the first error only then: nothing goes on behind it, in a file or in the caller's buffer. */
export async function allDone(work: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === 'rejected') throw result.reason
}
