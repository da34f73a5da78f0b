/**
 * The servers that are compared: rowan, and what a user would pick instead, each with writes of its own over one image.
 */
import { readFile, rm } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { join } from 'node:path'
import { findTool } from '../../test/tools/need.ts'
import { type RunningProcess, runOk, start } from '../../test/tools/processes.ts'
import { waitUntil } from '../../test/tools/wait.ts'

const SERVE = join(import.meta.dirname, '../../test/tools/machine-serve.ts')

export interface NbdServerUnderTest {
  uri: string
  /** Resident memory of the process. */
  memoryBytes(): Promise<number>
  stop(): Promise<void>
}

/** Starts a server with nothing written yet. */
export type Contender = (image: string, folder: string) => Promise<NbdServerUnderTest>

export const CONTENDERS: Record<string, Contender> = {
  /** A machine: the image in the pool, writes in a layer, served by a thread of its own. */
  rowan: async (image, folder) => {
    await rm(`${image}.machine/layers`, { recursive: true, force: true })
    const socket = join(folder, 'rowan.sock')
    // As bin/rowan does.
    const env = { ...process.env, UV_THREADPOOL_SIZE: '8' }
    return await started(start(process.execPath, [SERVE, socket, 'disk', image], { env }), socket)
  },
  'qemu-nbd': async (image, folder) => {
    const overlay = join(folder, 'overlay.qcow2')
    const socket = join(folder, 'qemu.sock')
    await runOk('qemu-img', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', image, overlay])
    const args = ['-t', '-e', '8', '-k', socket, '-x', 'disk', '-f', 'qcow2', '--cache=writeback', overlay]
    return await started(start('qemu-nbd', args), socket)
  },
  nbdkit: async (image, folder) => {
    const socket = join(folder, 'nbdkit.sock')
    const args = ['-f', '-U', socket, '-e', 'disk', '--filter=cow', 'file', image]
    return await started(start('nbdkit', args, { env: { ...process.env, TMPDIR: folder } }), socket)
  }
}

/** The tools that a comparison needs and that are not here. */
export function missingTools(): string[] {
  return ['fio', 'nbdsh', 'qemu-img', 'qemu-nbd', 'nbdkit'].filter(tool => findTool(tool) === undefined)
}

async function started(process: RunningProcess, socket: string): Promise<NbdServerUnderTest> {
  await waitUntil(
    `${process.name} to listen`,
    () => {
      if (process.exit !== undefined) throw new Error(`${process.name} left\n${process.tail()}`)
      return answers(socket)
    },
    { timeoutMs: 120_000, details: () => process.tail() }
  )
  return {
    uri: `nbd+unix:///disk?socket=${socket}`,
    memoryBytes: async () => {
      const status = await readFile(`/proc/${process.pid}/status`, 'utf8')
      return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024
    },
    stop: async () => {
      await process.stop()
    }
  }
}

async function answers(socket: string): Promise<boolean> {
  return await new Promise(resolve => {
    const connection = createConnection({ path: socket })
    const answer = (is: boolean) => {
      connection.destroy()
      resolve(is)
    }
    connection.once('data', () => answer(true))
    connection.once('error', () => answer(false))
    connection.once('close', () => answer(false))
  })
}
