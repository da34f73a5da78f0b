/**
 * `rowan status --watch`: what this peer is doing, second by second, until Ctrl-C.
 *
 * Rates are differences between two answers of the daemon. On a terminal the view stays where it is; elsewhere each second is a
 * paragraph, and with --json a line with the whole status.
 */
import type { MachineStatus, StatusResult } from '../src/node/command-results.ts'
import { formatDuration, formatSize } from '../src/node/units.ts'
import { table } from './text.ts'

export const WATCH_INTERVAL_MS = 1000
const BAR_CELLS = 24
const HOME_AND_CLEAR = '\x1b[H\x1b[2J'

/** @param seconds - between the two; undefined for the first answer, which has no rates */
export function watchText(now: StatusResult, before: StatusResult | undefined, seconds: number): string {
  const rate = (of: (status: StatusResult) => number) =>
    before === undefined ? '-' : `${formatSize(Math.max(0, (of(now) - of(before)) / seconds))}/s`
  const down = (status: StatusResult) => sum(status.transfers.map(({ wireBytes }) => wireBytes))
  const up = (status: StatusResult) => sum(status.exchanging.map(({ servedBytes }) => servedBytes))
  const parts = [`down ${rate(down)}   up ${rate(up)}   ${now.peers} connected`]
  if (now.exchanging.length > 0) {
    const rows = now.exchanging.map(each => {
      const own = (status: StatusResult) => status.exchanging.find(({ peer }) => peer === each.peer)
      return [
        `…${each.peer.slice(-8)}`,
        rate(status => own(status)?.fetched.wireBytes ?? 0),
        rate(status => own(status)?.servedBytes ?? 0),
        each.rttMs === null ? '-' : `${Math.round(each.rttMs)} ms`,
        String(each.outstanding)
      ]
    })
    parts.push(table(['PEER', 'GIVES', 'TAKES', 'ROUND TRIP', 'OWES'], rows))
  }
  parts.push(...now.machines.filter(({ attached }) => attached).map(machineText))
  return parts.join('\n\n')
}

function machineText({ name, boot, waiting, waited, local }: MachineStatus): string {
  const lines = [
    `${name}: ${local.blocks} of ${local.of} blocks here, waited ${formatDuration(waited.seconds * 1000)} so far`
  ]
  const queues = Object.entries(waiting).filter(([, count]) => count > 0)
  const words = { demand: 'the guest waits for', readAhead: 'read ahead', profile: 'for the boot', fill: 'to complete' }
  if (queues.length > 0) {
    lines.push(
      `  on the way: ${queues.map(([kind, count]) => `${count} ${words[kind as keyof typeof words]}`).join(', ')}`
    )
  }
  if (boot?.profile != null) {
    const { of, touched, passed, from } = boot.profile
    const cells = (count: number) => Math.round((BAR_CELLS * count) / Math.max(1, of))
    const bar = '█'
      .repeat(cells(touched))
      .padEnd(cells(Math.max(touched, passed)), '▒')
      .padEnd(BAR_CELLS, '░')
    const whose = { release: "the release's", peers: "peers'", own: 'an own', similar: "another version's" }[from]
    lines.push(`  boot ${bar} ${touched} of ${of} blocks, ${passed} fetched ahead, along ${whose} profile`)
  }
  return lines.join('\n')
}

/** Shows one answer of the daemon. */
export function showWatch(text: string, output: { isTTY?: boolean; write(text: string): unknown }): void {
  output.write(output.isTTY === true ? `${HOME_AND_CLEAR}${text}\n` : `${text}\n\n`)
}

function sum(numbers: number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
