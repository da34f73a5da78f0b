import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { endingWithParent, findProgram } from '../../../src/machine/parent-death.ts'
import { waitUntil } from '../../tools/wait.ts'

const MODULE = new URL('../../../src/machine/parent-death.ts', import.meta.url).href

/** Starts a child as `rowan run` does, and says its process id. */
const PARENT = `
  import { spawn } from 'node:child_process'
  import { endingWithParent } from '${MODULE}'
  const { file, args } = endingWithParent({ file: 'sleep', args: ['600'] })
  console.log(spawn(file, args).pid)
  setInterval(() => {}, 1000)
`

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

test.skipIf(findProgram('setpriv', process.env.PATH ?? '') === undefined)(
  'a child ends with its parent, also when that is killed',
  async () => {
    const parent = spawn(process.execPath, ['--input-type=module', '-e', PARENT], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    const [line] = await once(parent.stdout, 'data')
    const child = Number(String(line))
    try {
      expect(isAlive(child)).toBe(true)
      // So that it has asked for the signal.
      await waitUntil('the child to be sleep', async () => (await commandOf(child)).startsWith('sleep'))
      parent.kill('SIGKILL')
      await waitUntil('the child to end', () => !isAlive(child))
    } finally {
      parent.kill('SIGKILL')
      if (isAlive(child)) process.kill(child, 'SIGKILL')
    }
  }
)

async function commandOf(pid: number): Promise<string> {
  return await readFile(`/proc/${pid}/cmdline`, 'utf8')
}

test('a program that is not there is left to fail by its own name, and one without setpriv as it is', () => {
  const command = { file: 'no-such-program', args: ['x'] }
  expect(endingWithParent(command)).toEqual(command)
  expect(endingWithParent({ file: process.execPath, args: [] }, '/nowhere')).toEqual({
    file: process.execPath,
    args: []
  })
})
