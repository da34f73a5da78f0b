/**
 * Replicas as processes of their own: killed, and stopped without closing, in the middle of a fill.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { rm } from 'node:fs/promises'
import { afterEach, describe, expect, test } from 'vitest'
import type { ReplicaHint } from '../../src/swarm/swarm.ts'
import { startOwnTime } from '../tools/own-time.ts'
import { makeImage, obtainedBytes, startPeer, type TestPeer, until } from '../unit/swarm/support.ts'

const SEED = 31
const BLOCKS = 400
const RATE = 8e6

const children: ChildProcess[] = []
let client: TestPeer | undefined

afterEach(async () => {
  await client?.stop()
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGCONT')
    const ended = new Promise(resolve => child.once('exit', resolve))
    // In order, so that it removes its folder.
    child.send('stop')
    await ended
  }
})

type ProcessHint = ReplicaHint & { folder: string }

async function replica(): Promise<{ child: ChildProcess; hint: ProcessHint }> {
  const child = fork(new URL('../unit/swarm/replica-process.ts', import.meta.url), [SEED, BLOCKS, RATE].map(String), {
    execArgv: []
  })
  children.push(child)
  const hint = await new Promise<ProcessHint>((resolve, reject) => {
    child.once('message', message => resolve(message as ProcessHint))
    child.once('exit', code => reject(new Error(`a replica ended with ${code}`)))
  })
  return { child, hint }
}

describe('a replica as a process', () => {
  const ways: [string, NodeJS.Signals][] = [
    ['killed', 'SIGKILL'],
    ['stopped without closing', 'SIGSTOP']
  ]
  for (const [how, signal] of ways) {
    test(`${how} in the middle of a fill: the rest comes from another, and demand does not wait long`, async () => {
      const image = makeImage(SEED, BLOCKS)
      const [victim, other] = await Promise.all([replica(), replica()])
      client = await startPeer()
      const { swarm } = client
      const local = await swarm.openImage(image.id, [victim.hint, other.hint])
      await until(() => swarm.peers().length === 2, 'both replicas')
      const filled = swarm.fill(image.id)
      await until(() => (swarm.transfers(image.id).perPeer[victim.hint.peer]?.blocks ?? 0) > 10, 'blocks of the victim')
      victim.child.kill(signal)
      const ownMs = startOwnTime()
      // Wherever the scheduler would send it, it comes.
      const obtained = await swarm.want(image.id, BLOCKS - 1, 'demand')
      const waitedMs = ownMs()
      expect(Buffer.compare(obtainedBytes(client, obtained), image.block(BLOCKS - 1))).toBe(0)
      expect(waitedMs).toBeLessThan(5000)
      await filled
      expect(local.complete).toBe(true)
      if (signal === 'SIGKILL') await rm(victim.hint.folder, { recursive: true, force: true })
    })
  }
})
