/**
 * Programs that a test needs: a developer without them sees which tests were skipped and why, CI fails.
 */
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { describe, test } from 'vitest'

/** Where a program is; undefined when it is not on the PATH. */
export function findTool(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter)
  return folders.map(folder => join(folder, name)).find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    // Not there or not for us: both mean that the tool cannot be used.
    return false
  }
}

/**
 * Like `describe`, for tests that start other programs.
 *
 * Where one is missing, the tests are skipped under a title that says so; in CI a failing test stands in their place.
 */
export function describeWithTools(title: string, tools: string[], define: () => void): void {
  const missing = tools.filter(tool => findTool(tool) === undefined)
  if (missing.length === 0) {
    describe(title, define)
  } else if (process.env.CI === undefined || process.env.CI === '') {
    describe.skip(`${title} (skipped: ${missing.join(', ')} not installed)`, define)
  } else {
    test(`${title}: needs ${missing.join(', ')}`, () => {
      throw new Error(`not installed: ${missing.join(', ')}`)
    })
  }
}

/** The same for a whole file: `describe` to use in the place of vitest's. */
export function needTools(tools: string[]): (title: string, define: () => void) => void {
  return (title, define) => describeWithTools(title, tools, define)
}

/** Whether a file can be mounted as a disk: mounts are root's, and a container may have no device for them. */
export function fuseCanBeHad(): boolean {
  return process.getuid?.() === 0 && existsSync('/dev/fuse') && existsSync('/dev/loop-control')
}
