// What a user has taken is paid by the share as time goes on; who owes more than is free rests, for so long at most.

import { expect, test } from "bun:test";
import { type BudgetLimits, Budgets } from "../../src/jobs/budgets.ts";

const limits: BudgetLimits = { crowdedShare: 1 / 4, aloneShare: 1 / 2, crowdMs: 100, freeMs: 50, longestRestMs: 200 };

test("what is beyond the free part is rested for by the share, which is larger while nobody else is there", () => {
  const budgets = new Budgets(limits);
  budgets.see(1, 0);
  budgets.charge(1, 50, 0);
  expect(budgets.restMs(1, 0)).toBe(0);
  budgets.charge(1, 10, 0);
  expect(budgets.restMs(1, 0)).toBe(20);
  budgets.see(2, 0);
  expect(budgets.restMs(1, 0)).toBe(40);
  expect(budgets.restMs(1, 30)).toBe(10);
  expect(budgets.restMs(1, 40)).toBe(0);
  expect(budgets.restMs(2, 40)).toBe(0);
});

test("nobody rests longer than the longest rest, and no more is owed then, whatever was taken and whoever comes", () => {
  const budgets = new Budgets(limits);
  expect(budgets.charge(1, 1000, 0)).toBe(150);
  expect(budgets.restMs(1, 0)).toBe(200);
  budgets.see(2, 0);
  expect(budgets.restMs(1, 0)).toBe(200);
  expect(budgets.charge(1, 1000, 0)).toBe(0);
  expect(budgets.charge(1, 1000, 40)).toBe(10);
  expect(budgets.restMs(1, 40)).toBe(200);
});

test("what was charged and not taken is given back, and nobody gains by it", () => {
  const budgets = new Budgets(limits);
  budgets.see(2, 0);
  budgets.charge(1, 80, 0);
  expect(budgets.restMs(1, 0)).toBe(120);
  budgets.charge(1, -20, 0);
  expect(budgets.restMs(1, 0)).toBe(40);
  budgets.charge(1, -1000, 0);
  budgets.charge(1, 60, 0);
  expect(budgets.restMs(1, 0)).toBe(40);
});

test("who is alone owes nothing where that is the rule, until others come; they are there for a while after they were seen", () => {
  const budgets = new Budgets({ ...limits, aloneShare: null });
  expect(budgets.charge(1, 1000, 0)).toBe(0);
  budgets.see(2, 0);
  expect(budgets.restMs(1, 0)).toBe(0);
  budgets.charge(1, 1000, 0);
  expect(budgets.restMs(1, 100)).toBe(100);
  expect(budgets.restMs(1, 101)).toBe(0);
  // Nothing is owed when they come back.
  budgets.see(2, 102);
  expect(budgets.restMs(1, 102)).toBe(0);
});
